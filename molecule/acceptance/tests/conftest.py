"""Runs of the real playbooks on the hosts under test, each once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
from records import records
from playbook_runner import PlaybookRun, play

# More than any disk gives, so that every host is refused by what it was measured at.
BEYOND_ANY_DISK = 10**9


@dataclass(frozen=True)
class OnceMore:
    """What a run said, and each host's records before and after it."""

    answer: PlaybookRun
    before: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def declared(fleet_inputs: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The exceptions of these hosts, which are containers and say so."""
    exceptions = [inputs["acceptance_exceptions"] for inputs in fleet_inputs.values()]
    if not all("virtualization" in each for each in exceptions):
        pytest.skip("these hosts are no containers, and are not judged as what they are not")
    return {name: reason for each in exceptions for name, reason in each.items()}


@pytest.fixture(scope="session")
def once_more(fleet_inputs: dict[str, dict[str, Any]], request: pytest.FixtureRequest) -> OnceMore:
    """A run where every host's record stands; a later test of the first host measures all anew."""
    inventory = request.config.option.ansible_inventory
    hosts = {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in fleet_inputs}
    before = {name: records(host) for name, host in hosts.items()}
    answer = play(inventory, "playbooks/acceptance.yml")
    return OnceMore(answer, before, {name: records(host) for name, host in hosts.items()})


@pytest.fixture(scope="session")
def without_exceptions(declared: dict[str, str], request: pytest.FixtureRequest) -> PlaybookRun:
    """The playbook that builds first on a blank host, where nobody has declared that it is a container."""
    undeclared = {"acceptance_exceptions": {}, "acceptance_iops_min": BEYOND_ANY_DISK}
    return play(request.config.option.ansible_inventory, "playbooks/host.yml", variables=undeclared)


@pytest.fixture(scope="session")
def measured_anew(
    declared: dict[str, str], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PlaybookRun, Path]:
    """playbooks/accept.yml where no disk is fast enough, and its report."""
    report = tmp_path_factory.mktemp("accept") / "acceptance.json"
    exceptions = {name: reason for name, reason in declared.items() if name != "iops"}
    wanted = {"acceptance_exceptions": exceptions, "acceptance_iops_min": BEYOND_ANY_DISK, "acceptance_report_file": str(report)}
    return play(request.config.option.ansible_inventory, "playbooks/accept.yml", variables=wanted), report
