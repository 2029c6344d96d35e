"""Measures the repositories of file backups on their host, for the arithmetic of its disk."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from .pgbackrest_repository import DAY, sizes

UNIT = Path("/etc/systemd/system/grunnfjell-restic.service")


def measured(unit: Path = UNIT) -> dict[str, Any]:
    """Bytes of each host's repositories and of the disk; empty where none are kept."""
    try:
        path = re.search(r"^ExecStart=.* (/\S+)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    except FileNotFoundError:
        return {}
    if path is None or not os.path.isdir(path[1]):
        return {}
    homes = sorted(home for home in Path(path[1]).iterdir() if home.is_dir())
    periods = {home.name: [list(sizes(period)) for period in home.iterdir() if period.is_dir()] for home in homes}
    held = sum(size for files in periods.values() for period in files for _, size, _ in period)
    return {
        "repositories": {
            home.name: growth([[(size, at) for _, size, at in period] for period in periods[home.name] if period])
            | {"period_days": 7 if any("-W" in period.name for period in home.iterdir()) else 31}
            for home in homes
        },
        "held_bytes": held,
        # What other files leave for the repositories.
        "disk_bytes": shutil.disk_usage(path[1]).free + held,
        "device": os.stat(path[1]).st_dev,
    }


def growth(periods: list[list[tuple[int, float]]]) -> dict[str, int]:
    """Of (bytes, time) of the files of each period's repository: the most that its first day took, and any day after it.

    >>> growth([[(1000, 0.0), (500, 3600.0), (60, 3.0 * 86400)], [(900, 0.0)]])
    {'first_bytes': 1500, 'bytes_per_day': 30}
    """
    first, later = [0], [0]
    for files in periods:
        began, ended = min(at for _, at in files), max(at for _, at in files)
        begun = sum(size for size, at in files if at <= began + DAY)
        first.append(begun)
        days = max(1.0, (ended - began - DAY) / DAY)
        later.append(round((sum(size for size, _ in files) - begun) / days))
    return {"first_bytes": max(first), "bytes_per_day": max(later)}
