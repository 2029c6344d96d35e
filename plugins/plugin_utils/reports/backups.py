"""Archiving, backups and restore drills in the status report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..fleet.units import mib
from .work_rates import span

Report = Mapping[str, Any]

# Share of the queue from which waiting WAL is worth a sentence, so there is time for the other three quarters.
WAITING = 0.25
# Share of the repository's disk.
FULL = 0.8
# Every week has a full backup, and it may be as late as any other one.
WEEK_S = 7 * 86400
FULL_BACKUP = "systemctl start grunnfjell-backup@full"


def answered(report: Report, section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((host, answer) for host, answer in report[section].items() if "error" not in answer)


def backups_attention(report: Report) -> Iterator[str]:
    """Every sentence about archiving, backups and drills."""
    for host, archive in answered(report, "archives"):
        yield from archive_attention(host, archive)
    for host, backup in answered(report, "backups"):
        yield from backup_attention(host, backup)
        yield from drill_attention(host, backup)


def archive_attention(host: str, archive: Mapping[str, Any]) -> Iterator[str]:
    waiting, most = archive["waiting_bytes"], archive["queue_max"]
    if archive["archive_mode"] == "off":
        yield f"{host}: archive_mode is off, so no WAL is archived: bind postgresql_parameters (docs/backups.md) and run site.yml"
    elif archive["failing"] or waiting >= WAITING * most:
        since = "" if archive["archived_s"] is None else f" for {span(archive['archived_s'])}"
        yield (
            f"{host}: no WAL reached {archive['repository']}{since}, and {mib(waiting)} wait. At {mib(most)} "
            f"(pgbackrest_archive_push_queue_max) it is dropped, and moments until the next backup are lost. Look at "
            f"PostgreSQL's log"
        )


def backup_attention(host: str, backup: Mapping[str, Any]) -> Iterator[str]:
    database = backup["database"]
    if backup["problem"]:
        yield f"{host}: the repository of {database} cannot be read: {backup['problem']}"
    elif backup["label"] is None:
        yield f"{host}: there is no backup of {database}: {FULL_BACKUP}"
    elif backup["age_s"] > backup["age_max_s"]:
        yield (
            f"{host}: the last backup of {database} is {span(backup['age_s'])} old, but the limit is {span(backup['age_max_s'])} "
            f"(pgbackrest_backup_age_max): journalctl -u 'grunnfjell-backup@*'"
        )
    elif backup["full_age_s"] is not None and backup["full_age_s"] > WEEK_S + backup["age_max_s"]:
        yield (
            f"{host}: the last full backup of {database} is {span(backup['full_age_s'])} old, and every other one needs it: "
            f"{FULL_BACKUP}"
        )
    if backup["missing"]:
        yield (
            f"{host}: WAL of {database} after {backup['missing'][0]} is missing, so no later moment can be restored until the "
            f"next backup: {FULL_BACKUP}"
        )
    elif backup["failed_over"]:
        yield (
            f"{host}: {database} failed over since the last backup, so WAL that only the former primary had may be missing. The "
            f"next backup begins within 10 minutes: journalctl -u grunnfjell-backup@failover"
        )
    if backup["disk_used"] >= FULL:
        yield (
            f"{host}: the repository's disk is {backup['disk_used']:.0%} full. Give it a larger one, or lower "
            f"pgbackrest_repo_retention_full"
        )


def drill_attention(host: str, backup: Mapping[str, Any]) -> Iterator[str]:
    database, drill = backup["database"], backup["drill"]
    if drill is None:
        yield f"{host}: no restore of {database} was ever tried: make restore-drill"
    elif not drill["proved"]:
        yield f"{host}: the last restore of {database} failed {span(drill['age_s'])} ago: {'; '.join(drill['problems'])}"
    elif drill["age_s"] > backup["drill_age_max_s"]:
        yield (
            f"{host}: the last restore drill of {database} was {span(drill['age_s'])} ago, but the limit is "
            f"{span(backup['drill_age_max_s'])} (pgbackrest_drill_age_max): systemctl list-timers grunnfjell-restore-drill.timer"
        )


def backup_rows(report: Report) -> Iterator[tuple[str, str]]:
    """Lines for the terminal."""
    for host, archive in answered(report, "archives"):
        archived = "never" if archive["archived_s"] is None else f"{span(archive['archived_s'])} ago"
        yield "archive", f"{host}: last WAL archived {archived}, {mib(archive['waiting_bytes'])} wait for {archive['repository']}"
    for host, backup in answered(report, "backups"):
        if backup["label"] is not None:
            yield (
                "backup",
                f"{host}: {backup['database']}, {backup['label']}, {span(backup['age_s'])} ago, {mib(backup['bytes'])}; "
                f"disk {backup['disk_used']:.0%} full",
            )
        if (drill := backup["drill"]) and drill["proved"]:
            yield (
                "drill",
                f"{host}: {backup['database']} restored {span(drill['age_s'])} ago, "
                f"RPO {'' if drill['compared'] else 'at most '}{drill['rpo_s']:g} s, RTO {drill['rto_s']:g} s",
            )
