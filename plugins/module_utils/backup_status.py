"""The state of WAL archiving on a database, and of backups on a repository host."""

from __future__ import annotations

import json
import shutil
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from . import pgbackrest, psql

ARCHIVE_SQL = """
SELECT json_build_object(
  'standby', pg_is_in_recovery(),
  'archive_mode', current_setting('archive_mode'),
  'waiting', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),
  'segment_bytes', (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
  'archived_s', extract(epoch FROM now() - last_archived_time)::int,
  'failing', coalesce(last_failed_time > last_archived_time, last_failed_time IS NOT NULL))
FROM pg_stat_archiver;
"""
# Segments of 16 MiB in one file of 4 GiB, the unit of a segment's name.
SEGMENTS_PER_FILE = 256


def archive(wanted: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Of a database: how much WAL waits for its repository host. Empty on a host that archives nothing, as a standby."""
    if not wanted["repository"]:
        return {}
    answer = json.loads(psql.superuser(ARCHIVE_SQL, wanted["port"], timeout))
    if answer.pop("standby"):
        return {}
    waiting = answer["waiting"] * answer.pop("segment_bytes")
    return {**answer, "waiting_bytes": waiting, "queue_max": wanted["queue_max"], "repository": wanted["repository"][0]}


def backup(wanted: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Of a repository host: its last backup and restore drill, and whether WAL is missing since. Empty on other hosts."""
    if not wanted["databases"]:
        return {}
    stanza, path, now = wanted["stanza"], Path(wanted["path"]), time.time()
    held = pgbackrest.info(stanza, timeout)
    backups = pgbackrest.complete(held.get("backup") or [])
    disk = shutil.disk_usage(path)
    last = backups[-1] if backups else None
    full = [held["timestamp"]["stop"] for held in backups if held["type"] == "full"]
    held_wal = pgbackrest.segments(path / "archive" / stanza, last["archive"]["start"]) if last else []
    segments = sorted(file.name[:24] for file in held_wal)
    return {
        "database": ", ".join(wanted["databases"]),
        "problem": pgbackrest.problem_of(held),
        "label": last and last["label"],
        "age_s": last and round(now - last["timestamp"]["stop"]),
        "full_age_s": round(now - full[-1]) if full else None,
        # Any moment since the end of the oldest backup can be restored, if no WAL is missing.
        "reach_s": round(now - backups[0]["timestamp"]["stop"]) if backups else None,
        "bytes": last and last["info"]["repository"]["size"],
        "backups": len(backups),
        "missing": gaps(segments),
        "failed_over": len(wanted["databases"]) > 1 and bool(segments) and segments[-1][:8] > last["archive"]["start"][:8],
        "newest_wal": segments[-1] if segments else None,
        "disk_used": round(1 - disk.free / disk.total, 3),
        "drill": drill(now),
        "age_max_s": wanted["backup_age_max"] * 3600,
        "drill_age_max_s": wanted["drill_age_max"] * 86400,
    }


def number(segment: str) -> int:
    """The place of a segment in its timeline.

    >>> number("000000010000000100000000") - number("0000000100000000000000FF")
    1
    """
    return int(segment[8:16], 16) * SEGMENTS_PER_FILE + int(segment[16:24], 16)


def gaps(segments: list[str]) -> list[str]:
    """Sorted segments after which some are missing, also where a new timeline begins.

    >>> gaps(["000000010000000000000001", "000000010000000000000002", "000000010000000000000005"])
    ['000000010000000000000002']
    >>> gaps(["000000010000000000000001", "000000020000000000000002", "000000030000000000000004"])
    ['000000020000000000000002']
    """
    return [one for one, other in pairwise(segments) if number(other) > number(one) + 1]


def drill(now: float, path: Path = Path("/var/lib/grunnfjell/pgbackrest/last.json")) -> dict[str, Any] | None:
    """The last restore drill: its age, whether it proved the restore, and its figures. None if there was none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    age = round(now - datetime.fromisoformat(record["at"]).timestamp())
    rto = record["latest"]["rto_s"] if record["proved"] else None
    figures = {"age_s": age, "rto_s": rto, "rpo_s": record.get("rpo_s"), "compared": record.get("compared", False)}
    return figures | {key: record[key] for key in ("proved", "problems")}
