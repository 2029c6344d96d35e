"""A command as a person types it, and how two states of the hosts differ."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Any

from authority import REPOSITORY

# Host → part → name → value, as state.py prints it.
State = dict[str, dict[str, dict[str, Any]]]


def command(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command of the README, as a person types it."""
    return subprocess.run(
        arguments, cwd=REPOSITORY, env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def differences(before: State, after: State, but: tuple[str, ...] = ()) -> list[str]:
    """A line for each value that differs between two states; `but` are parts that are not compared."""
    found = []
    for host in before:
        for part in before[host]:
            if part not in but:
                old, new = before[host][part], after[host][part]
                found += [
                    f"{host}: {part}: {name}: {old.get(name)!r} → {new.get(name)!r}"
                    for name in sorted(old.keys() | new.keys())
                    if old.get(name) != new.get(name)
                ]
    return found
