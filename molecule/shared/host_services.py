"""The kit's services on a host under test, by what their roles declare in meta/service.yml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import Service, carried, declared, services

# Patterns for every unit of the kit's services; systemctl ignores those that match nothing.
UNITS = tuple(dict.fromkeys(declared("units")))


def services_of(variables: Mapping[str, Any]) -> list[Service]:
    """The services that a host carries, from its inventory variables."""
    own = carried(variables["topology_roles"], variables["group_names"])
    return [service for role, service in services().items() if role in own]


def carries(role: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether the inventory puts a role on a host, for `pytest.mark.only_on`."""
    return lambda variables: role in carried(variables["topology_roles"], variables["group_names"])


def log_commands(service: Service) -> list[str]:
    """Shell commands that print the last lines of the service's log files, or else of its units' journals."""
    files = [f"tail -n 25 {pattern}" for pattern in service.logs]
    return files or [f"journalctl --no-pager --quiet --lines=25 --unit='{unit}'" for unit in service.units]
