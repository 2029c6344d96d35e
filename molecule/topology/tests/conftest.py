"""Two hosts of the inventory under test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import testinfra
from wrong_fleet import CONNECTION, ROOT, TwoHosts


@pytest.fixture(scope="module")
def hosts(inventory: str) -> dict[str, dict[str, Any]]:
    """Hosts and their variables, by name."""
    command = [Path(sys.executable).parent / "ansible-inventory", "-i", inventory, "--list"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return dict(sorted(json.loads(listed)["_meta"]["hostvars"].items()))


@pytest.fixture(scope="module")
def fleet(hosts: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> TwoHosts:
    first, second = (
        {"ansible_host": name} | {key: value for key, value in hosts[name].items() if CONNECTION.fullmatch(key)}
        for name in list(hosts)[:2]
    )
    return TwoHosts(first, second, tmp_path_factory.mktemp("wrong"))


@pytest.fixture(scope="module")
def second_host(hosts: dict[str, dict[str, Any]], inventory: str) -> testinfra.host.Host:
    """The second host itself."""
    return testinfra.get_host(f"ansible://{list(hosts)[1]}", ansible_inventory=inventory)
