"""Inputs that were renamed: a former name works until the release in which it is removed."""

from __future__ import annotations

from collections.abc import Iterator

from .model import Fleet

# Former name: (name, the release in which the former name is removed).
RENAMED = {
    "application_migrate_command": ("application_release_commands (a list of commands)", "2.0"),
    "rabbitmq_hipe_compile": ("rabbitmq_require_native_code", "2.0"),
    "topology_places": ("topology_sites", "2.0"),
}


def former_names(fleet: Fleet) -> Iterator[str]:
    """Warnings for inputs that the inventory sets by a former name."""
    used = {name for host in fleet.hosts.values() for name in host.inputs}
    for former, (name, until) in RENAMED.items():
        if former in used:
            yield f"{former} is now {name}. Rename it in the inventory: the former name works until {until}."
