"""The repository hosts of a host with files, and its first backup."""

from __future__ import annotations

from typing import Any

import pytest
import testinfra
from file_backups import backed_up
from testinfra.host import Host


@pytest.fixture
def stores(inventory, inputs) -> dict[str, Host]:
    """The repository hosts of this host."""
    return {
        name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in inputs["restic_repository_hosts"]
    }


@pytest.fixture
def store(stores) -> str:
    return min(stores)


@pytest.fixture
def first_backup(host) -> dict[str, Any]:
    """The records of the first backup, which the role begins in the background."""
    return backed_up(host)


@pytest.fixture
def pair(stores, hostname) -> str:
    """Ansible's pattern for this host and its repository hosts."""
    return ",".join([hostname, *stores])
