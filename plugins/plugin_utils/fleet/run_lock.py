"""One run at a time changes an inventory's fleet: the file that names it, next to the inventory.

The run itself is the control process, whose child each action is, so no descriptor can hold the lock for it. The file names the
process and when it started; a process that has ended holds nothing, however it ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

NAME = ".grunnfjell-run"


class RunUnderWay(Exception):
    """Names the run that came first."""


def started(process: int) -> str | None:
    """When the process started, in ticks since boot; None if it has ended."""
    try:
        # The name, in brackets, may hold anything.
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, start = fields[0], fields[19]
    return None if state in "ZX" else start


def hold(inventory: Path, process: int, playbooks: list[str]) -> None:
    """Takes the inventory for the process until that ends; raises if another one has it."""
    try:
        descriptor = os.open(inventory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return  # an inventory that this account only reads, e.g. in CI
    with open(descriptor, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            first = json.load(file)
        except ValueError:
            first = {}
        alive = first.get("process") and started(first["process"]) == first["started"]
        if alive and first["process"] != process:
            raise RunUnderWay(
                f"Another run changes this fleet: {' '.join(first['playbooks'])}, process {first['process']}, since "
                f"{first['since']}. Wait until it has ended, then run again."
            )
        if not alive:
            run = {"process": process, "started": started(process), "playbooks": playbooks}
            file.seek(0)
            file.truncate()
            json.dump(run | {"since": time.strftime("%H:%M:%S")}, file)
