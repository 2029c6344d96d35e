"""Commands as a person types them, and the differences between two states of the hosts."""

from __future__ import annotations

import subprocess
from typing import Any

from authority import REPOSITORY

# Host → part → name → value, as state.py prints it.
State = dict[str, dict[str, dict[str, Any]]]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the README."""
    return subprocess.run(arguments, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def differences(before: State, after: State, ignored: tuple[str, ...] = ()) -> list[str]:
    """A line for each value that differs between two states. ignored: parts that are not compared."""
    lines = []
    for host in before:
        for part in before[host]:
            if part not in ignored:
                old, new = before[host][part], after[host][part]
                lines += [
                    f"{host}: {part}: {name}: {old.get(name)!r} → {new.get(name)!r}"
                    for name in sorted(old.keys() | new.keys())
                    if old.get(name) != new.get(name)
                ]
    return lines
