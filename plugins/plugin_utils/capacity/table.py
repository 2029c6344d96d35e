"""The plan as text: the answer first, then the lines. At most 100 columns, without colours."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from ..fleet.units import MIB
from .line import BYTES, Line
from .plan import Plan, reason
from .timers import Timer

WIDTH = 100
# host, what, used, limit, left, what one more worker adds
COLUMNS = (20, 30, 11, 11, 11, 12)


def table(capacity: Plan) -> str:
    blocks = [_answer(capacity), _lines(capacity), _timers(capacity.timers), _notes(capacity)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _answer(capacity: Plan) -> list[str]:
    if capacity.refusals:
        lines = [f"THIS FLEET DOES NOT FIT OR CANNOT WORK: {len(capacity.refusals)} to edit. site.yml will refuse it."]
        return lines + [line for sentence in capacity.refusals for line in _wrapped(sentence, "  * ")]
    lines = []
    for room in capacity.rooms:
        what = f"of {room.application} like {room.like}"
        if room.workers is None:
            lines += _wrapped(f"Nothing in the inventory limits how many more workers {what} may be added.")
            continue
        fits = {0: "no more worker", 1: "1 more worker"}.get(room.workers, f"{room.workers} more workers")
        lines += _wrapped(f"This fleet fits. Room for {fits}: a host {what} with all of its programs.")
        lines += _wrapped(f"The next one is limited by {reason(room)}.")
    return lines


def _lines(capacity: Plan) -> Iterator[str]:
    takes: dict[tuple[str, str], int] = {}
    for room in capacity.rooms:
        for name, more in room.takes.items():
            takes[name] = max(takes.get(name, 0), more)
    yield _row("HOST", "WHAT", "USED", "OF", "LEFT", "1 WORKER +")
    for hosts, line in _alike(capacity.lines, takes):
        more = takes.get(line.name, 0)
        yield _row(
            hosts, line.what, *(_cell(line, value) for value in (line.used, line.limit, line.left)), _cell(line, more, "-")
        )
        if line.left < 0:
            yield "    DOES NOT FIT"
        for part in _parts(line) if len(line.parts) > 1 or line.left < 0 else ():
            yield from _wrapped(part, " " * 4, " " * (6 + COLUMNS[2]))


def _alike(lines: Iterable[Line], takes: dict[tuple[str, str], int]) -> list[tuple[str, Line]]:
    """Hosts with the same numbers share one row, which keeps the table of a large fleet short."""
    groups: dict[tuple[object, ...], list[Line]] = {}
    for line in lines:
        own = tuple((part.what, part.used, part.host if part.host != line.host else "") for part in line.parts)
        groups.setdefault((line.what, line.limit, own, takes.get(line.name, 0)), []).append(line)
    return [(_names([line.host for line in group]), group[0]) for group in groups.values()]


def _parts(line: Line) -> Iterator[str]:
    groups: dict[tuple[str, int], list[str]] = {}
    for part in line.parts:
        groups.setdefault((part.what, part.used), []).append(part.host)
    for (what, used), hosts in groups.items():
        times = f"{len(hosts)} × {_cell(line, used)}, " if len(hosts) > 1 else ""
        where = f"{_names(hosts)}: " if hosts[0] else ""
        yield f"{_cell(line, used * len(hosts)):>{COLUMNS[2]}}  {where}{times}{what}"


def _names(hosts: list[str]) -> str:
    return hosts[0] + (f" +{len(hosts) - 1}" if len(hosts) > 1 else "")


def _cell(line: Line, value: int, nothing: str = "0") -> str:
    if value == 0:
        return nothing
    return f"{value / MIB:,.0f} MiB" if line.unit == BYTES else f"{value:,}"


def _row(host: str, what: str, *numbers: str) -> str:
    host = host if len(host) < COLUMNS[0] else host[: COLUMNS[0] - 2] + "…"
    cells = "".join(f"{number:>{width}}" for number, width in zip(numbers, COLUMNS[2:], strict=True))
    return f"{host:<{COLUMNS[0]}}{what:<{COLUMNS[1]}}{cells}".rstrip()


def _timers(timers: Iterable[Timer]) -> Iterator[str]:
    """Each step of the chain once, with the host that has the smallest margin."""
    worst: dict[tuple[str, str], Timer] = {}
    for timer in timers:
        step = timer.shorter, timer.longer
        if step not in worst or timer.limit - timer.seconds < worst[step].limit - worst[step].seconds:
            worst[step] = timer
    if worst:
        yield "TIMERS: each ends before the next"
    for timer in worst.values():
        sign = "<" if timer.holds else "IS NOT BELOW"
        yield f"  {timer.shorter} {timer.seconds:,} s {sign} {timer.longer} {timer.limit:,} s"


def _notes(capacity: Plan) -> list[str]:
    lines = []
    if capacity.not_measured:
        hosts = ", ".join(capacity.not_measured)
        lines += _wrapped(
            f"Not measured, since they did not answer: {hosts}. Their memory and descriptors are checked when they do."
        )
    if capacity.unknown_consumers is None:
        lines.append("No broker runs yet, so its consumers are unknown.")
    for sentence in capacity.unknown_consumers or ():
        lines += _wrapped(f"NOT IN THE INVENTORY: {sentence}")
    return lines


def _wrapped(text: str, first: str = "", later: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=later or " " * len(first),
        break_on_hyphens=False,
        break_long_words=False,
    )
