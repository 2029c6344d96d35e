"""The members of a Patroni cluster in the status report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..fleet.units import MIB, mib

Report = Mapping[str, Any]

LEADER = ("leader", "master", "primary")
SYNCHRONOUS = ("sync_standby", "quorum_standby")
# Bytes that a standby may be behind: more than a base load leaves, and far below patroni_max_slot_wal_keep_size.
LONG_LAG = 64 * MIB


def answered(report: Report) -> dict[str, dict[str, Any]]:
    return {host: answer for host, answer in report["patroni"].items() if "error" not in answer}


def standbys(report: Report) -> set[str]:
    """The members that copy the primary. They take no writes."""
    views = [member["members"] for member in answered(report).values()]
    return {name for view in views for name, part in view.items() if part["role"] not in LEADER}


def patroni_attention(report: Report) -> Iterator[str]:
    """Every sentence about the members; those of several members that say the same once."""
    members = answered(report)
    for sentence in dict.fromkeys(problem for member in members.values() for problem in member["problems"]):
        yield f"PostgreSQL's cluster: {sentence} (docs/patroni.md)"
    if any(member["paused"] for member in members.values()):
        yield "Patroni is paused, so nobody takes over from a lost primary: patronictl resume"
    for host, member in members.items():
        if member["pending_restart"]:
            yield f"{host}: PostgreSQL runs with a setting of before its change: run site.yml, which restarts it"
    view = next((member["members"] for member in members.values()), {})
    for name, part in view.items():
        if (part["lag"] or 0) >= LONG_LAG:
            yield f"{name} is {mib(part['lag'])} behind the primary"
    primaries = {name for member in members.values() for name, part in member["members"].items() if part["role"] in LEADER}
    if len(primaries) > 1:
        yield f"the members name different primaries: {', '.join(sorted(primaries))} (docs/patroni.md)"


def patroni_rows(report: Report) -> Iterator[tuple[str, str]]:
    """A line per member for the terminal, the primary first."""
    view = next((member["members"] for member in answered(report).values()), {})
    for name, part in sorted(view.items(), key=lambda item: (item[1]["role"] not in LEADER, item[0])):
        what = "primary" if part["role"] in LEADER else "synchronous standby" if part["role"] in SYNCHRONOUS else "standby"
        lag = "" if part["lag"] is None else f", {mib(part['lag'])} behind"
        timeline = f", timeline {part['timeline']}" if part["timeline"] else ""
        yield "postgresql", f"{name}: {what}, {part['state']}{timeline}{lag}"
