"""The other end of a database or repository host, and its first backup."""

from __future__ import annotations

from typing import Any

import pytest
import testinfra
from backup_client import backups
from deadline import until
from testinfra.host import Host


@pytest.fixture
def peer(inventory, inputs) -> Host:
    """The repository host of a database, or the database of a repository host."""
    (name,) = inputs["pgbackrest_repository_hosts"] + inputs["pgbackrest_database_hosts"]
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory)


@pytest.fixture
def first_backup(host, peer, inputs) -> dict[str, Any]:
    """The first full backup, which the role begins in the background."""
    repository = host if inputs["pgbackrest_database_hosts"] else peer
    return until("a full backup", lambda: backups(repository), 120)[0]


@pytest.fixture
def pair(inventory, inputs, hostname) -> str:
    """Ansible's pattern for this host and its other end."""
    return ",".join([hostname, *inputs["pgbackrest_repository_hosts"], *inputs["pgbackrest_database_hosts"]])
