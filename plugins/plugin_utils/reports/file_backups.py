"""Backups of files in the status report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..fleet.units import mib
from .work_rates import span

Report = Mapping[str, Any]

BACK_UP = "systemctl start grunnfjell-restic-backup"
LOG = "journalctl -u grunnfjell-restic-backup"
# Share of the repositories' disk.
FULL = 0.8


def files_attention(report: Report) -> Iterator[str]:
    """Every sentence about backups of files."""
    for host, answer in report["files"].items():
        if "error" in answer:
            continue
        for store, backup in answer.get("backups", {}).items():
            yield from backup_attention(host, store, backup, answer["interval_s"])
        if "backups" in answer:
            yield from drill_attention(host, answer)
        elif answer["disk_used"] >= FULL:
            yield (
                f"{host}: the disk of the file backups is {answer['disk_used']:.0%} full. Give it a larger one, or lower "
                f"restic_retention_days"
            )


def backup_attention(host: str, store: str, backup: Mapping[str, Any], interval_s: int) -> Iterator[str]:
    if backup["age_s"] is None:
        why = f" ({backup['problem']})" if backup["problem"] else ""
        yield f"{host}: {store} has no backup of its files{why}: {BACK_UP}"
    elif backup["age_s"] > 2 * interval_s:
        why = f" ({backup['problem']})" if backup["problem"] else ""
        yield (
            f"{host}: the last backup of its files on {store} is {backup['age_s'] / 3600:.1f} h old, but the limit is two "
            f"intervals, {2 * interval_s / 3600:g} h (restic_backup_hours){why}: {LOG}"
        )
    elif backup["problem"]:
        yield (
            f"{host}: the backup of its files to {store} failed {span(backup['failed_s'])} ago, the last good one is "
            f"{span(backup['age_s'])} old: {backup['problem']}. The timer tries again; now: {BACK_UP}"
        )
    if backup["unread"]:
        yield (
            f"{host}: the last backup on {store} lacks {backup['unread']} files that could not be read, e.g. "
            f"{backup['unread_first']}: {LOG}"
        )


def drill_attention(host: str, answer: Mapping[str, Any]) -> Iterator[str]:
    drill, limit = answer["drill"], answer["drill_age_max_s"]
    if drill is None:
        # Without a backup, that is the sentence to read.
        if any(backup["age_s"] is not None for backup in answer["backups"].values()):
            yield f"{host}: no restore of its files was ever tried: make restore-drill"
    elif not drill["proved"]:
        yield f"{host}: the last restore drill of its files failed: {'; '.join(drill['problems'])}"
    elif drill["age_s"] > limit:
        yield (
            f"{host}: the last restore drill of its files was {span(drill['age_s'])} ago, but the limit is {span(limit)} "
            f"(restic_drill_age_max): make restore-drill"
        )


def files_rows(report: Report) -> Iterator[tuple[str, str]]:
    for host, answer in report["files"].items():
        for store, backup in answer.get("backups", {}).items():
            if backup["age_s"] is not None:
                yield (
                    "files",
                    f"{host}: {backup['files']} files, {mib(backup['bytes'])}, on {store} {span(backup['age_s'])} ago",
                )
        for name, age_s in answer.get("repositories", {}).items():
            yield "files", f"{host}: of {name}, {'no backup' if age_s is None else f'last written {span(age_s)} ago'}"
