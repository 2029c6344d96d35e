"""The kit's services on a host under test, by what their roles declare in meta/service.yml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import Service, carried, declared, services

# Every unit of the kit's services, for systemctl; patterns that match nothing are left out by it.
UNITS = tuple(dict.fromkeys(declared("units")))


def services_of(variables: Mapping[str, Any]) -> list[Service]:
    """The services that the inventory puts on a host, from the host's variables."""
    own = carried(variables["topology_roles"], variables["group_names"])
    return [service for role, service in services().items() if role in own]


def carries(role: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether the inventory puts a role on a host, for `pytest.mark.only_on`."""
    return lambda variables: role in carried(variables["topology_roles"], variables["group_names"])


def log_commands(service: Service) -> list[str]:
    """Shell commands that print the ends of the service's logs: its files, or else its units' journals."""
    files = [f"tail -n 25 {pattern}" for pattern in service.logs]
    return files or [f"journalctl --no-pager --quiet --lines=25 --unit='{unit}'" for unit in service.units]
