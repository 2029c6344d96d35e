"""The state of file backups, on a host with files and on a repository host."""

from __future__ import annotations

import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from . import restic


def age(record: dict[str, Any] | None, now: float) -> int | None:
    return round(now - datetime.fromisoformat(record["at"]).timestamp()) if record else None


def files(wanted: dict[str, Any]) -> dict[str, Any]:
    """The last backups of this host's files, or the repositories that it keeps."""
    now = time.time()
    if wanted["repositories"]:
        return repositories(Path(wanted["path"]), wanted["repositories"], now)
    known = restic.read(restic.RECORD)
    drill = restic.read(restic.DRILL)
    return {
        "backups": {host: backup(known.get(host) or {}, now) for host in wanted["repository_hosts"]},
        "drill": {key: drill[key] for key in ("proved", "problems", "files_opened")} | {"age_s": age(drill, now)}
        if drill
        else None,
        "interval_s": wanted["backup_hours"] * 3600,
        "drill_age_max_s": wanted["drill_age_max"] * 86400,
    }


def backup(known: dict[str, Any], now: float) -> dict[str, Any]:
    succeeded, failed = known.get("succeeded"), known.get("failed")
    return {
        "age_s": age(succeeded, now),
        **{key: (succeeded or {}).get(key) for key in ("files", "bytes", "added_bytes", "unread", "unread_first")},
        "failed_s": age(failed, now),
        "problem": (failed or {}).get("problem", ""),
    }


def repositories(path: Path, names: list[str], now: float) -> dict[str, Any]:
    """Of a repository host: when each host last wrote a snapshot, by this host's clock, and how full the disk is."""
    disk = shutil.disk_usage(path)
    written = {name: [file.stat().st_mtime for file in path.glob(f"{name}/*/snapshots/*")] for name in names}
    return {
        "repositories": {name: round(now - max(times)) if times else None for name, times in written.items()},
        "disk_used": round(1 - disk.free / disk.total, 3),
    }
