"""The fleet as the inventory describes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Host:
    """One inventory host.

    roles: roles that its groups give it.  applications: application groups it is in.
    address: where the fleet reaches it.  machine_id, distribution, release: facts, None while unknown
    (an unreachable host, or one outside ``--limit``).
    inputs: every role input by its name, role defaults included.
    promises: Celery's settings that its application must not break.
    """

    name: str
    roles: frozenset[str] = frozenset()
    applications: tuple[str, ...] = ()
    address: str | None = None
    machine_id: str | None = None
    distribution: str | None = None
    release: str | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    promises: frozenset[str] = frozenset()

    @property
    def drained(self) -> bool:
        """It only left its work: none of its programs runs, and its PgBouncer has no client."""
        return self.inputs.get("celery_worker_state") == "drained" and "producer" not in self.roles


@dataclass(frozen=True)
class Fleet:
    """hosts by name; roles: role → the inventory groups that carry it; applications: the groups that are applications."""

    hosts: dict[str, Host]
    roles: dict[str, tuple[str, ...]]
    applications: tuple[str, ...] = ()

    def groups_of(self, role: str) -> str:
        """The groups that carry the role, as a person reads them."""
        return " or ".join(f"'{group}'" for group in self.roles.get(role, (role,)))

    def with_role(self, role: str) -> Iterator[Host]:
        return (host for host in self.hosts.values() if role in host.roles)

    def of_application(self, name: str, role: str) -> list[Host]:
        return [host for host in self.with_role(role) if name in host.applications]
