"""A lock, so only one run at a time changes an inventory's fleet: a file in the inventory that names the run.

Actions run in child processes, so no open descriptor could hold the lock for the whole run. The file names the control process
and its start time; once that process has ended, in whatever way, the lock is free.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

NAME = ".grunnfjell-run"


class RunUnderWay(Exception):
    """Names the run that holds the lock."""


def started(process: int) -> str | None:
    """The start time of the process, in ticks since boot; None if it has ended."""
    try:
        # The name, in parentheses, may contain anything.
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, start = fields[0], fields[19]
    return None if state in "ZX" else start


def hold(inventory: Path, process: int, playbooks: list[str]) -> None:
    """Locks the inventory until the process ends; raises if another run holds the lock."""
    try:
        descriptor = os.open(inventory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return  # an inventory that this account can only read, e.g. in CI
    with open(descriptor, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            first = json.load(file)
        except ValueError:
            first = {}
        alive = first.get("process") and started(first["process"]) == first["started"]
        if alive and first["process"] != process:
            raise RunUnderWay(
                f"Another run is changing this fleet: {' '.join(first['playbooks'])}, process {first['process']}, since "
                f"{first['since']}. Wait until it has ended, then run again."
            )
        if not alive:
            run = {"process": process, "started": started(process), "playbooks": playbooks}
            file.seek(0)
            file.truncate()
            json.dump(run | {"since": time.strftime("%H:%M:%S")}, file)
