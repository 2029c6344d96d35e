"""The runs of a scenario's playbook, as callback_plugins/recorded_runs.py wrote them down."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One run. check: in check mode; began: seconds since the epoch; changed: host to the names of its changed tasks."""

    check: bool
    began: float
    changed: dict[str, list[str]]


def read() -> list[Run]:
    """Check mode, converge, idempotence; the inventory changed, then converge; something taken out, converge, check mode."""
    directory = os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY")
    file = Path(directory, "runs.jsonl") if directory else None
    if file is None or not file.exists():
        return []
    return [Run(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
