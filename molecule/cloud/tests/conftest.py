"""The fleet of cloud images, and its state."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from authority import REPOSITORY

from lab.demo import fleet
from lab.demo.fleet import Fleet

# Host → part → name → value, as state.py prints it.
State = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def inventory(request) -> str:
    return request.config.option.ansible_inventory


@pytest.fixture(scope="module")
def site(inventory) -> Fleet:
    return fleet.read(inventory)


@pytest.fixture(scope="module")
def state(site) -> Callable[[], State]:
    script = Path(__file__).with_name("state.py").read_text(encoding="utf-8")
    return lambda: {host.name: json.loads(host.run(["python3", "-"], stdin=script)) for host in site.hosts}


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
