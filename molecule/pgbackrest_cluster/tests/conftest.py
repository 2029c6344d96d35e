"""The cluster of the scenario, its repository host, and a writer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from authority import REPOSITORY
from backup_client import backups
from database_client import DisturbedCluster, Writer
from deadline import until
from playbook_runner import play
from testinfra.host import Host


@pytest.fixture
def cluster(fleet, fleet_inputs) -> DisturbedCluster:
    """All members are in their place."""
    names = [name for name, inputs in fleet_inputs.items() if "patroni_members" in inputs]
    members = DisturbedCluster({name: fleet[name] for name in names}, fleet_inputs)
    members.wait_in_place()
    return members


@pytest.fixture
def repository_name(fleet_inputs) -> str:
    (name,) = [name for name, inputs in fleet_inputs.items() if inputs.get("pgbackrest_database_hosts")]
    return name


@pytest.fixture
def repository(fleet, repository_name) -> Host:
    """With its first full backup, which the role begins in the background."""
    until("a full backup", lambda: backups(fleet[repository_name]), 180)
    return fleet[repository_name]


@pytest.fixture
def writer(cluster) -> Callable[[str], Writer]:
    """A writer on a host, by its name, and an empty table for it."""
    cluster.new_table()
    return lambda name: Writer(cluster.hosts[name], cluster.inputs[name])


@pytest.fixture
def status(inventory) -> Callable[[], dict[str, Any]]:
    """The report of `make status`. Without a producer in the scenario the playbook ends with a failure."""

    def ask() -> dict[str, Any]:
        run = play(inventory, "playbooks/status.yml")
        assert "the inventory has no producer" in run.text, run.output
        return json.loads((REPOSITORY / "build/status.json").read_text(encoding="utf-8"))

    return ask
