"""The arithmetic and the rules of role pgbackrest."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

from ansible.errors import AnsibleFilterError

from ..fleet.inputs import mapping, number, numbers
from ..fleet.model import Host
from ..fleet.units import MIB

# Seconds after which PostgreSQL closes a WAL segment that is not full, so the most that a lost host takes with it, plus the time
# of the upload. A segment without work compresses to 16 KiB: 15 s costs the repository at most 94 MB per day; 60 s costs 24 MB.
ARCHIVE_TIMEOUT = 15
# PostgreSQL writes WAL in segments of this size, also for one that archive_timeout closed.
SEGMENT = 16 * MIB
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
# Measured on Debian 12 and 13 by proportional set size, 6 and 9 MiB: the server, and one process of a backup. Its
# list of files grows with the database.
SERVER = 8 * MIB
PROCESS = 24 * MIB
# A restore drill starts PostgreSQL with 128 MiB of shared buffers on the repository host.
DRILL = 192 * MIB


def pgbackrest_archiving(stanza: str, archive_timeout: int = ARCHIVE_TIMEOUT) -> dict[str, Any]:
    """PostgreSQL's settings for archiving, for postgresql_parameters. archive_timeout: in seconds."""
    return {
        "archive_mode": "on",
        "archive_command": f"pgbackrest --stanza={stanza} archive-push %p",
        "archive_timeout": archive_timeout,
    }


def pgbackrest_lines(own: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[str]:
    """The lines of a section: the role's options, then the operator's; refuses options set by both, and drops empty ones.

    An option with several values has a line for each.
    """
    if twice := sorted(set(own) & set(parameters)):
        raise AnsibleFilterError(
            f"pgbackrest_parameters names {', '.join(twice)}, which the role sets itself. Take it out, and set the input of the "
            f"option's name if there is one"
        )
    lines = []
    for key, value in {**own, **parameters}.items():
        for single in value if isinstance(value, list) else [value]:
            text = ("y" if single else "n") if isinstance(single, bool) else str(single)
            if "\n" in text:
                raise AnsibleFilterError(f"pgbackrest_parameters has a line break in {key}. Write one value per option")
            lines += [f"{key}={text}"] if text else []
    return lines


def pgbackrest_servers(hosts: list[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a stanza for each of its databases; pgBackRest finds out which one is the primary.

    >>> pgbackrest_servers(["db1", "db2"], {"port": 5432})
    {'pg1-host': 'db1', 'pg1-port': 5432, 'pg2-host': 'db2', 'pg2-port': 5432}
    """
    return {f"pg{place}-{key}": value for place, host in enumerate(hosts, 1) for key, value in {"host": host, **options}.items()}


def pgbackrest_mark(hosts: list[str], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """What the primary among the databases registered from module pgbackrest_mark in this run; empty without one.

    >>> standby, primary = ({"__pgbackrest_mark": {"mark": mark}} for mark in ({}, {"xid": 7}))
    >>> pgbackrest_mark(["db1", "db2", "db3"], {"db1": standby, "db2": primary})
    {'xid': 7}
    """
    answers = [(hostvars.get(name) or {}).get("__pgbackrest_mark") or {} for name in hosts]
    return next((answer["mark"] for answer in answers if answer.get("mark")), {})


def pgbackrest_calendars(full_weekdays: list[str], time: str, incremental_hours: int, cluster: bool = False) -> dict[str, str]:
    """Type of backup to its OnCalendar of systemd.timer; a type without a day has no entry.

    Of a cluster, `failover` looks for a new timeline.

    >>> pgbackrest_calendars(["Sun"], "01:00", 6)
    {'full': 'Sun *-*-* 01:00:00', 'diff': 'Mon,Tue,Wed,Thu,Fri,Sat *-*-* 01:00:00', 'incr': '*-*-* 00/6:30:00'}
    >>> pgbackrest_calendars(["Sun"], "01:00", 24)["incr"]
    '*-*-* 00:30:00'
    """
    others = [day for day in WEEKDAYS if day not in full_weekdays]
    calendars = {"full": f"{','.join(full_weekdays)} *-*-* {time}:00"}
    if others:
        calendars["diff"] = f"{','.join(others)} *-*-* {time}:00"
    if incremental_hours:
        # systemd refuses a step that reaches the next day.
        calendars["incr"] = f"*-*-* 00{f'/{incremental_hours}' if incremental_hours < 24 else ''}:30:00"
    if cluster:
        calendars["failover"] = "*-*-* *:00/10:00"
    return calendars


def pgbackrest_problems(inputs: Mapping[str, Any]) -> list[str]:
    """Faults of the role's inputs, as sentences; the argument specs refuse wrong types."""
    return [problem for rule in (_sides, _schedule, _secret) for problem in rule(inputs)]


def _sides(inputs: Mapping[str, Any]) -> Iterator[str]:
    repositories, databases = inputs.get("repository_hosts"), inputs.get("database_hosts")
    if not isinstance(repositories, list) or not isinstance(databases, list):
        return
    if repositories and databases:
        yield (
            f"pgbackrest_repository_hosts is {', '.join(map(str, repositories))} and pgbackrest_database_hosts is "
            f"{', '.join(map(str, databases))}, but a host is either a database or a repository: backups beside the database are "
            f"lost with it. Take the host out of one of the groups."
        )
    if not repositories and not databases:
        yield (
            "pgbackrest_repository_hosts and pgbackrest_database_hosts are both empty, so nothing would be backed up. Set the "
            "first one on a database, the second one on a repository host."
        )
    if len(repositories) > 1:
        yield (
            f"pgbackrest_repository_hosts has {len(repositories)} hosts ({', '.join(map(str, repositories))}), but takes one. "
            f"Keep one of them."
        )
    if not NAME.fullmatch(str(inputs.get("stanza"))):
        yield (
            f"pgbackrest_stanza is '{inputs.get('stanza')}', but may hold small letters, digits, '_' and '-' only, and begins "
            f"with a letter. Correct it."
        )


def _schedule(inputs: Mapping[str, Any]) -> Iterator[str]:
    days, hours = inputs.get("full_weekdays"), inputs.get("incremental_hours")
    for key in ("full_weekdays", "drill_weekdays"):
        for day in inputs[key] if isinstance(inputs.get(key), list) else []:
            if day not in WEEKDAYS:
                yield f"pgbackrest_{key} names '{day}', which is not one of {', '.join(WEEKDAYS)}. Correct it."
    if days == []:
        yield "pgbackrest_full_weekdays is empty, but every other backup needs a full one. Name a day, e.g. [Sun]."
    for key, example in (("backup_time", "01:00"), ("drill_time", "04:00")):
        if not TIME.fullmatch(str(inputs.get(key))):
            yield (
                f"pgbackrest_{key} is '{inputs.get(key)}', which is not a time from 00:00 to 23:59. Write it in quotes, e.g. "
                f'"{example}".'
            )
    if isinstance(hours, int) and 0 < hours < 25 and 24 % hours:
        yield (
            f"pgbackrest_incremental_hours is {hours}, which does not divide a day. Use 1, 2, 3, 4, 6, 8, 12 or 24; 0 for none."
        )


def _secret(inputs: Mapping[str, Any]) -> Iterator[str]:
    if inputs.get("database_hosts") and not inputs.get("repo_cipher_pass"):
        yield (
            "pgbackrest_repo_cipher_pass is empty, but a repository holds the whole database and is encrypted. Bind it to "
            "vault_pgbackrest_repo_cipher_pass, and run `make secrets`."
        )


def memory_parts(host: Host) -> list[tuple[str, int]] | None:
    """pgBackRest's memory during a backup, and on a repository host that of a restore drill; None if an input is unknown."""
    processes = number(host, "pgbackrest_process_max")
    if processes is None:
        return None
    # The process that directs the others, and each of those.
    backup = SERVER + (processes + 1) * PROCESS
    drill = [("restore drill", DRILL)] if host.inputs.get("pgbackrest_database_hosts") else []
    return [(f"pgBackRest with {processes} processes", backup), *drill]


def repository_parts(host: Host) -> list[tuple[str, int]] | None:
    """What the repository will hold for its retention, in bytes, at the measured sizes; None before the first full backup.

    A full backup is kept until a newer one is older than the retention, so up to one more interval of everything is kept.
    """
    measured = host.measured.get("backups")
    wanted = numbers(host, "pgbackrest_repo_retention_full", "pgbackrest_incremental_hours")
    weekdays = host.inputs.get("pgbackrest_full_weekdays")
    if not measured or not measured.get("full_bytes") or wanted is None or not isinstance(weekdays, list) or not weekdays:
        return None
    days, hours = wanted
    per_week = len(weekdays)
    kept_days = days + math.ceil(7 / per_week)
    # One more while it is made: the oldest one is removed afterwards.
    fulls = math.ceil(days * per_week / 7) + 2
    diffs = math.ceil(kept_days * (7 - per_week) / 7)
    incrementals = kept_days * 24 // hours if hours else 0
    return [
        (f"{fulls} full backups", fulls * measured["full_bytes"]),
        (f"{diffs} differential backups", diffs * measured["diff_bytes"]),
        (f"{incrementals} incremental backups", incrementals * measured["incr_bytes"]),
        (f"WAL of {kept_days} days", kept_days * measured["wal_bytes_per_day"]),
        ("a restore drill", measured["database_bytes"]),
    ]


def forgotten_on(deleted: date, full_weekdays: list[str], retention_days: int) -> date:
    """The date by which no backup holds a row any more that was deleted on this date, if no backup fails.

    The last full backup with the row goes once the next one, which begins on a later day, is older than the retention. That is
    looked at after each backup, so at the latest on the day after.

    >>> forgotten_on(date(2026, 11, 30), ["Sun"], 14).isoformat()  # a Monday; the next full backup is on 6 December
    '2026-12-21'
    >>> forgotten_on(date(2026, 11, 29), ["Sun"], 14).isoformat()  # that Sunday's backup may have begun before
    '2026-12-21'
    """
    days = (deleted + timedelta(days=number) for number in range(1, 8))
    next_full = next(day for day in days if WEEKDAYS[day.weekday()] in full_weekdays)
    return next_full + timedelta(days=retention_days + 1)


def archive_timeout_of(host: Host) -> int | None:
    """Seconds of archive_timeout on a database host; None if it is not a number."""
    value = mapping(host, "postgresql_parameters").get("archive_timeout")
    return int(value) if str(value or "").isdigit() else None


def queue_seconds(queue_max: int, archive_timeout: int) -> int:
    """Seconds for which the WAL of a quiet database fits its queue while the repository host is away.

    >>> queue_seconds(8 * 2**30, 15) // 60
    128
    """
    return queue_max // SEGMENT * archive_timeout
