"""Runs of the real playbooks on the hosts under test, each once for all tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playbook_runner import PlaybookRun, play
from records import records
from testinfra.host import Host

# More than any disk delivers, so every host is refused with its measured value.
BEYOND_ANY_DISK = 10**9


@dataclass(frozen=True)
class SecondRun:
    """A run, and each host's records before and after it."""

    run: PlaybookRun
    before: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def exceptions(fleet_inputs: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The reasoned exceptions of these hosts, which declare that they are containers."""
    declared = [inputs["acceptance_exceptions"] for inputs in fleet_inputs.values()]
    if not all("virtualization" in entries for entries in declared):
        pytest.skip("these hosts do not declare that they are containers")
    return {name: reason for entries in declared for name, reason in entries.items()}


@pytest.fixture(scope="session")
def second_run(fleet: dict[str, Host], inventory: str) -> SecondRun:
    """A run while every host has a record. Session scope: later tests of the first host measure again."""
    before = {name: records(host) for name, host in fleet.items()}
    run = play(inventory, "playbooks/acceptance.yml")
    return SecondRun(run, before, {name: records(host) for name, host in fleet.items()})


@pytest.fixture(scope="session")
def run_without_exceptions(exceptions: dict[str, str], inventory: str) -> PlaybookRun:
    """The playbook that runs first on a blank host, without the declaration that it is a container."""
    undeclared = {"acceptance_exceptions": {}, "acceptance_iops_min": BEYOND_ANY_DISK}
    return play(inventory, "playbooks/host.yml", variables=undeclared)


@pytest.fixture(scope="session")
def run_on_slow_disks(
    exceptions: dict[str, str], inventory: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PlaybookRun, Path]:
    """playbooks/accept.yml where no disk is fast enough, and its report."""
    report = tmp_path_factory.mktemp("accept") / "acceptance.json"
    remaining = {name: reason for name, reason in exceptions.items() if name != "iops"}
    variables = {
        "acceptance_exceptions": remaining,
        "acceptance_iops_min": BEYOND_ANY_DISK,
        "acceptance_report_file": str(report),
    }
    return play(inventory, "playbooks/accept.yml", variables=variables), report
