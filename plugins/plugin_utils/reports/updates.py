"""Updates of the kit's services, and reboots, that a fleet waits for, in the status report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

Report = Mapping[str, Any]


def day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(moment))


def updates_attention(report: Report) -> Iterator[str]:
    """One sentence per update with all hosts that wait for it, and one for hosts that wait for a reboot."""
    answers = {host: answer for host, answer in report["updates"].items() if "error" not in answer}
    waiting: dict[tuple[str, str], dict[str, float | None]] = {}
    for host, answer in answers.items():
        for update in answer["updates"]:
            waiting.setdefault((update["name"], update["candidate"]), {})[host] = update["since"]
    for (name, candidate), hosts in sorted(waiting.items()):
        known = [moment for moment in hosts.values() if moment is not None]
        since = f" since {day(min(known))}" if known else ""
        yield f"{name} {candidate} waits to be installed on {', '.join(sorted(hosts))}{since}: make update"
    if reboots := {host: answer["reboot_since"] for host, answer in answers.items() if answer["reboot_since"] is not None}:
        yield f"{', '.join(sorted(reboots))} waits for a reboot since {day(min(reboots.values()))}: make update"
