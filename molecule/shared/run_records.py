"""The runs of a scenario's playbook, as recorded by callback_plugins/recorded_runs.py."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """check: in check mode.  began: seconds since the epoch.  changed: host to the names of its changed tasks."""

    check: bool
    began: float
    changed: dict[str, list[str]]


def read() -> list[Run]:
    """Check mode, converge, idempotence; converge after a change; converge after a removal, check mode."""
    directory = os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY")
    file = Path(directory, "runs.jsonl") if directory else None
    if file is None or not file.exists():
        return []
    return [Run(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
