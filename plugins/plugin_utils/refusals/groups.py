"""Roles without hosts, and roles that need another one."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.model import Fleet


def empty_groups(fleet: Fleet) -> Iterator[str]:
    for role in fleet.roles:
        if missing := missing_groups(fleet, role):
            yield (
                f"topology_roles gives the role {role} to {missing}, but the inventory has no such group. "
                f"Correct the name in topology_roles, or add the group to the hosts file."
            )
        elif not any(fleet.with_role(role)):
            group = fleet.groups_of(role)
            yield (
                f"The group {group} has no host, so nothing runs the role {role}. "
                f"Add a host to {group} in the inventory's hosts file, or take '{role}' out of topology_roles."
            )


def missing_groups(fleet: Fleet, role: str) -> str:
    return " and ".join(f"'{group}'" for group in fleet.roles[role] if group not in fleet.groups)


def programs_without_supervisor(fleet: Fleet) -> Iterator[str]:
    if "supervisor" not in fleet.roles:
        return
    for role in ("celery_worker", "producer"):
        for host in fleet.with_role(role):
            if "supervisor" not in host.roles:
                yield (
                    f"{host.name} has the role {role}, but no supervisord to run its programs. "
                    f"Add {host.name} to the group {fleet.groups_of('supervisor')}."
                )
