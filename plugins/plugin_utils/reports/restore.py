"""The result of a restore drill as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..fleet.units import mib
from .work_rates import span

Record = Mapping[str, Any]


def proof(name: str, restore: Record) -> str:
    """One line about one restore. Times are in seconds."""
    skipped = f", {len(restore['uncounted'])} tables too large to count" if restore["uncounted"] else ""
    return f"{name}: in service after {restore['rto_s']:g} s, {restore['rows']} rows in {restore['tables']} tables{skipped}"


def in_place(host: str, restored: Record) -> list[str]:
    """What a restore in place brought back, and where the data from before is."""
    lost = "an unknown time" if restored["rpo_s"] is None else f"at most {restored['rpo_s']:g} s"
    return [
        f"{host}: the database was restored to {restored['to']} ({mib(restored['bytes'])}), and is in service after "
        f"{restored['rto_s']:g} s on timeline {restored['timeline']}. {restored['proved_rows']} rows were counted; "
        f"{lost} of commits is lost.",
        f"  The old data is in {restored['kept']}." if restored["kept"] else "  There was no old data to keep.",
    ]


def sentences(records: Mapping[str, Record], files: Mapping[str, Record]) -> tuple[list[str], list[str]]:
    """Lines for the terminal, and a sentence for each database and each host with files that is not proved."""
    lines, problems = [], []
    for host, record in files.items():
        if record["proved"]:
            lines.append(
                f"{host}: {record['files_opened']} files, {mib(record['bytes'])}, were read from the backups and equal the live "
                f"ones ({record['seconds']:g} s)."
            )
        problems += [f"{host}: the backup of its files is not proved: {problem}." for problem in record["problems"]]
    for host, record in records.items():
        if record["proved"]:
            lines += [
                f"{host}: the database {record['stanza']} was restored from {record['backup']} ({mib(record['bytes'])}) "
                f"and proved.",
                f"  RPO {record['rpo_s']:g} s: the repository had a commit after {record['exposure_s']:g} s, and the loss of the "
                f"database would have cost {span(record['lost_s'])} of commits",
                "  " + proof("last state", record["latest"]),
                "  " + proof("point in time", record["point"]),
            ]
        else:
            problems += [f"{host}: the restore of {record['stanza']} is not proved: {problem}." for problem in record["problems"]]
    if not records and not files:
        problems.append(
            "Nothing was restored: no host with backups answered, or topology_roles gives no host the role pgbackrest or restic "
            "(docs/backups.md)."
        )
    return lines, problems
