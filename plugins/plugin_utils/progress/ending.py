"""The summary of a run: changes, times, and last the failures."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

from .faults import Fault
from .record import Record, count, duration

NAMED_HOSTS = 8


def in_order(hosts: Iterable[str]) -> list[str]:
    """worker2 before worker10."""
    return sorted(
        hosts, key=lambda host: [(len(part), part) if part.isdigit() else (0, part) for part in re.split(r"(\d+)", host)]
    )


def host_list(hosts: Iterable[str]) -> str:
    hosts = in_order(hosts)
    if len(hosts) <= NAMED_HOSTS:
        return ", ".join(hosts)
    return ", ".join(hosts[: NAMED_HOSTS - 1]) + f" and {len(hosts) - NAMED_HOSTS + 1} more"


def changes(record: Record) -> list[str]:
    """Hosts with the same changes share one list."""
    alike: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for host in in_order(record.changes):
        alike.setdefault(tuple(record.changes[host].items()), []).append(host)
    lines = []
    for tasks, hosts in alike.items():
        each = " each" if len(hosts) > 1 else ""
        lines.append(f"{host_list(hosts)}: {count(sum(times for _, times in tasks), 'change')}{each}")
        lines += [f"  {task}" if times == 1 else f"  {task} ({times} times)" for task, times in tasks]
    return lines


def times(record: Record, now: float) -> list[str]:
    """A line for each play that ran a task; batches, and plays imported several times, are added up.

    Below it, the tasks that took long.
    """
    seconds: dict[str, float] = {}
    long: dict[str, dict[str, float]] = {}
    for play in record.plays:
        if play.tasks:
            seconds[play.name] = seconds.get(play.name, 0) + play.seconds(now)
            for task, took in play.long.items():
                slowest = long.setdefault(play.name, {})
                slowest[task] = max(took, slowest.get(task, 0))
    lines = []
    for name, took in seconds.items():
        lines.append(f"{duration(took):>12}  {name}")
        lines += [f"{duration(of_task):>12}    {task}" for task, of_task in long.get(name, {}).items()]
    if len(seconds) > 1:
        lines.append(f"{duration(sum(seconds.values())):>12}  in all")
    return lines


def wrapped(line: str, columns: int | None) -> list[str]:
    """The line, wrapped between words; continuation lines are indented behind a bullet."""
    if not columns or not line:
        return [line]
    indent = re.match(r" *(?:[*-] )?", line)[0]
    return textwrap.wrap(
        line, columns, subsequent_indent=" " * len(indent), break_long_words=False, break_on_hyphens=False
    ) or [""]  # fmt: skip


def faults(found: Iterable[Fault], columns: int | None = None) -> list[str]:
    """Each sentence once, below its hosts and task. columns: of a terminal."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for fault in found:
        hosts = alike.setdefault((fault.sentence, fault.task, fault.place), [])
        if fault.host and fault.host not in hosts:
            hosts.append(fault.host)
    lines: list[str] = []
    for (sentence, task, place), hosts in alike.items():
        where = f"{task} ({place})" if place else task
        lines += ["", f"{host_list(hosts)}: {where}" if hosts else where]
        lines += [f"  {line}" if line else "" for line in sentence.splitlines()]
    return [part for line in lines[1:] for part in wrapped(line, columns)]
