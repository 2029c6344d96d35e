"""The model of the fleet."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Host:
    """One host of the inventory.

    roles: roles that its groups give it.  applications: application groups it is in.
    address: where the fleet reaches it.  machine_id, distribution, release, python: facts, None while unknown
    (an unreachable host, or one outside ``--limit``).
    measured: what resource_facts found on it, empty while unknown.
    unreachable: the connection's error if this run could not log in.
        ansible_port: the inventory's SSH port, None if it sets none.
        inputs: every role input by name, role defaults included.
        promises: names of the Celery settings that its application must not change.
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
    python: str | None = None
    measured: dict[str, Any] = field(default_factory=dict)
    unreachable: str | None = None
    ansible_port: int | None = None

    @property
    def ssh_port(self) -> int:
        """sshd's port: that of this run's connection, else the inventory's."""
        return self.measured.get("ssh_port") or self.ansible_port or 22

    def number(self, name: str) -> int | float | None:
        """The input as a number; None if it is not one, which the contract refuses."""
        value = self.inputs.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def drained(self) -> bool:
        """None of its programs runs, so its PgBouncer has no clients."""
        return self.inputs.get("celery_worker_state") == "drained" and "producer" not in self.roles


@dataclass(frozen=True)
class Fleet:
    """hosts by name; roles: role → its inventory groups; applications: the groups that are applications.

    groups: every group of the inventory.  version: of the running kit, None outside a run.
    """

    hosts: dict[str, Host]
    roles: dict[str, tuple[str, ...]]
    applications: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()
    version: str | None = None

    def groups_of(self, role: str) -> str:
        """The groups of the role, for a sentence."""
        return " or ".join(f"'{group}'" for group in self.roles.get(role, (role,)))

    def with_role(self, role: str) -> Iterator[Host]:
        return (host for host in self.hosts.values() if role in host.roles)

    def of_application(self, name: str, role: str) -> list[Host]:
        return [host for host in self.with_role(role) if name in host.applications]

    def colleagues(self, host: Host) -> list[Host]:
        """The workers of the host's application."""
        return [worker for name in host.applications for worker in self.of_application(name, "celery_worker")]

    def at(self, address: str, seen_from: Host) -> Host | None:
        """The host of the fleet that ``seen_from`` reaches by the address or name; None if it is outside the fleet."""
        if is_loopback(address):
            return seen_from
        return next((host for host in self.hosts.values() if address == host.name or same_address(address, host.address)), None)


def names_of(hosts: list[Host]) -> str:
    """The hosts' names, for a sentence."""
    *others, last = sorted(host.name for host in hosts)
    return f"{', '.join(others)} and {last}" if others else last


def ip(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The text as an address; None for a name."""
    try:
        return ipaddress.ip_address(str(text))
    except ValueError:
        return None


def same_address(one: Any, other: Any) -> bool:
    """Whether both are the same address, in any spelling of IPv6, or the same name."""
    return one == other or (ip(one) is not None and ip(one) == ip(other))


def bracketed(address: str) -> str:
    """The address as it is written before a port.

    >>> bracketed("fd00::11"), bracketed("10.0.0.11")
    ('[fd00::11]', '10.0.0.11')
    """
    return f"[{address}]" if ":" in address else address


def is_loopback(text: Any) -> bool:
    address = ip(text)
    return address.is_loopback if address else text == "localhost"


def is_every_address(text: Any) -> bool:
    address = ip(text)
    return address.is_unspecified if address else text == "*"
