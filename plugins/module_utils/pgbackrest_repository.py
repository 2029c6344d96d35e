"""Measures a repository, for the arithmetic of its disk."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import pgbackrest

CONFIG = Path("/etc/pgbackrest/pgbackrest.conf")
DAY = 86400


def measured(config: Path = CONFIG) -> dict[str, Any]:
    """Bytes of the last backup of each type, of the database, of a day's WAL, and of the disk; empty without a repository."""
    try:
        text = config.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    path, stanza = re.search(r"^repo1-path=(.+)$", text, re.MULTILINE), re.findall(r"^\[(.+)\]$", text, re.MULTILINE)[-1]
    if path is None or not os.path.isdir(path[1]):
        return {}
    try:
        backups = pgbackrest.complete(pgbackrest.info(stanza).get("backup") or [])
    except pgbackrest.PgbackrestError:
        return {}  # a repository that cannot be read is no reason to refuse a run that may mend it
    files = list(sizes(Path(path[1])))
    disk = shutil.disk_usage(path[1])
    return {
        **{f"{kind}_bytes": last_delta(backups, kind) for kind in ("full", "diff", "incr")},
        "database_bytes": backups[-1]["info"]["size"] if backups else 0,
        "wal_bytes_per_day": wal_per_day(files, Path(path[1]), time.time()),
        # What other files leave for the repository.
        "disk_bytes": disk.free + sum(size for _, size, _ in files),
        "device": os.stat(path[1]).st_dev,
    }


def last_delta(backups: list[dict[str, Any]], kind: str) -> int:
    """Bytes that the last backup of a type added to the repository; 0 without one."""
    return next((backup["info"]["repository"]["delta"] for backup in reversed(backups) if backup["type"] == kind), 0)


def sizes(path: Path) -> Iterator[tuple[str, int, float]]:
    """Path, size and time of each file; files may vanish meanwhile."""
    for directory, _, files in os.walk(path):
        for name in files:
            try:
                status = os.stat(os.path.join(directory, name))
            except FileNotFoundError:
                continue
            yield os.path.join(directory, name), status.st_size, status.st_mtime


def wal_per_day(files: list[tuple[str, int, float]], path: Path, now: float) -> int:
    """Bytes of WAL of the last 24 hours; a younger archive is projected to a day from an hour on, so one busy minute is not.

    >>> wal_per_day([("/r/archive/a", 1000, 96400.0), ("/r/backup/b", 9, 96400.0)], Path("/r"), 100000.0)
    24000
    """
    recent = [(size, time) for name, size, time in files if name.startswith(f"{path}/archive/") and time > now - DAY]
    observed = min(DAY, max((now - time for _, time in recent), default=0))
    return round(sum(size for size, _ in recent) * (DAY / observed if observed >= 3600 else 1))
