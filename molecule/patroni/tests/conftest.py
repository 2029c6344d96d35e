"""The cluster of the scenario, as the tests that disturb it need it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from database_client import DisturbedCluster, Writer


@pytest.fixture
def cluster(fleet, fleet_inputs) -> DisturbedCluster:
    """All members are in their place."""
    members = DisturbedCluster(fleet, fleet_inputs)
    members.wait_in_place()
    return members


@pytest.fixture
def writer(cluster) -> Callable[[str], Writer]:
    """A writer on a host, by its name, and an empty table for it."""
    cluster.new_table()
    return lambda name: Writer(cluster.hosts[name], cluster.inputs[name])
