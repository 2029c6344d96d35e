"""The report of the dead letters for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

# RabbitMQ's reasons for dead-lettering a message.
REASONS = {
    "rejected": "the task raised an exception, or a worker could not read or did not know it",
    "delivery_limit": "no worker survived it",
    "expired": "nobody took it in time",
    "maxlen": "the queue was full",
}


def with_causes(letters: Iterable[dict[str, Any]], causes: Iterable[dict[str, str]]) -> list[dict[str, Any]]:
    """The letters, each with the exception from a worker's log, if there is one."""
    known: dict[str, str] = {}
    for host_causes in causes:
        known |= host_causes
    return [{**letter, "exception": known.get(str(letter["id"]))} for letter in letters]


def _moment(seconds: Any) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if isinstance(seconds, int | float) else "?"


def sentence(letter: dict[str, Any]) -> str:
    reason = str(letter["reason"] or "unknown")
    why = f"{reason} ({REASONS[reason]})" if reason in REASONS else reason
    parts = [
        f"{letter['vhost']}  {letter['id']}  {letter['task']}",
        f"    {_moment(letter['died_at'])}  {why} in {letter['queue']}",
    ]
    if (letter["count"] or 0) > 1:
        parts[1] += f", {letter['count']} times"
    if letter.get("retries"):
        parts[1] += f", after {letter['retries']} retries"
    if letter.get("exception"):
        parts.append(f"    {letter['exception']}")
    if letter.get("expired"):
        parts.append(f"    its deadline passed at {letter['expires']}: a worker would discard it")
    if "args" in letter:
        parts.append(f"    {letter['args']} {letter['kwargs']}")
    return "\n".join(parts)


def render(report: dict[str, Any]) -> str:
    if report["action"] == "replay":
        left = sum(report["totals"].values()) - len(report["replayed"])
        lines = [f"{len(report['replayed'])} replayed, {left} left as they were."]
        lines += [f"  {letter['vhost']}  {letter['id']}  was kept: {letter['why']}" for letter in report["kept"]]
        return "\n".join(lines)
    total = sum(report["totals"].values())
    lines = [f"{total} dead letter{'s' * (total != 1)}, {len(report['letters'])} shown."]
    lines += [f"! {queue['text']}." for queue in report["without"]]
    return "\n".join([*lines, *(sentence(letter) for letter in report["letters"])])
