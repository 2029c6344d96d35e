"""The fleet of cloud images, and its state."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from host_states import State

from lab.demo import fleet
from lab.demo.fleet import Fleet


@pytest.fixture(scope="module")
def site(inventory) -> Fleet:
    return fleet.read(inventory)


@pytest.fixture(scope="module")
def state(site) -> Callable[[], State]:
    script = Path(__file__).with_name("state.py").read_text(encoding="utf-8")
    return lambda: {host.name: json.loads(host.run(["python3", "-"], stdin=script)) for host in site.hosts}
