"""Runs of the real playbooks on the hosts under test, each once for all of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
from measured import records

ROOT = Path(__file__).resolve().parents[3]
# More than any disk gives, so that every host is refused by what it was measured at.
BEYOND_ANY_DISK = 10**9


@dataclass(frozen=True)
class Answer:
    returncode: int
    said: str

    @property
    def changed(self) -> set[str]:
        return set(re.findall(r"changed=(\d+)", self.said))


@dataclass(frozen=True)
class OnceMore:
    """What a run said, and each host's records before and after it."""

    answer: Answer
    before: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def play(request: pytest.FixtureRequest) -> Any:
    """Runs a playbook with variables laid over the inventory's."""

    def run(playbook: str, **variables: Any) -> Answer:
        inventory = request.config.option.ansible_inventory
        program = Path(sys.executable).parent / "ansible-playbook"
        command = [program, "-i", inventory, f"playbooks/{playbook}.yml", "-e", json.dumps(variables)]
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return Answer(done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr))

    return run


@pytest.fixture(scope="session")
def declared(fleet_inputs: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The exceptions of these hosts, which are containers and say so."""
    exceptions = [inputs["acceptance_exceptions"] for inputs in fleet_inputs.values()]
    if not all("virtualization" in each for each in exceptions):
        pytest.skip("these hosts are no containers, and are not judged as what they are not")
    return {name: reason for each in exceptions for name, reason in each.items()}


@pytest.fixture(scope="session")
def once_more(play: Any, fleet_inputs: dict[str, dict[str, Any]], request: pytest.FixtureRequest) -> OnceMore:
    """A run where every host's record stands; a later test of the first host measures all anew."""
    inventory = request.config.option.ansible_inventory
    hosts = {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in fleet_inputs}
    before = {name: records(host) for name, host in hosts.items()}
    answer = play("acceptance")
    return OnceMore(answer, before, {name: records(host) for name, host in hosts.items()})


@pytest.fixture(scope="session")
def without_exceptions(play: Any, declared: dict[str, str]) -> Answer:
    """The playbook that builds first on a blank host, where nobody has declared that it is a container."""
    return play("host", acceptance_exceptions={}, acceptance_iops_min=BEYOND_ANY_DISK)


@pytest.fixture(scope="session")
def measured_anew(play: Any, declared: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Answer, Path]:
    """playbooks/accept.yml where no disk is fast enough, and its report."""
    report = tmp_path_factory.mktemp("accept") / "acceptance.json"
    exceptions = {name: reason for name, reason in declared.items() if name != "iops"}
    wanted = {"acceptance_exceptions": exceptions, "acceptance_iops_min": BEYOND_ANY_DISK, "acceptance_report_file": str(report)}
    return play("accept", **wanted), report
