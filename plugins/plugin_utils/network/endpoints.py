"""Addresses and ports where a role listens, or that a client connects to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..fleet.inputs import mappings, whole
from ..fleet.model import Host, is_every_address, is_loopback, same_address
from ..fleet.reach import listed, split_place
from ..fleet.services import Dials, Listens, services


@dataclass(frozen=True)
class Place:
    """Where a role listens; source: the input."""

    role: str
    source: str
    address: str
    port: int

    def meets(self, address: str, port: int) -> bool:
        """Whether a program that listens there conflicts with this place."""
        return self.port == port and (meeting(self.address, address) or is_every_address(self.address))


def meeting(wanted: str, occupied: str) -> bool:
    """Whether a program that listens on the second address blocks one that wants the first."""
    if is_every_address(occupied):
        return True
    both_loopback = is_loopback(wanted) and is_loopback(occupied)
    return same_address(wanted, occupied) or (both_loopback and "localhost" in (wanted, occupied))


def readers(host: Host, entry: Listens | Dials) -> Iterator[Callable[[str], Any]]:
    """Functions that look up the names in ``listens`` or ``dials``: in the host's inputs, or in each mapping of ``each``."""
    if not entry.each:
        yield host.inputs.get
    for mapping in mappings(host, entry.each) if entry.each else ():
        yield partial(value_at, mapping)


def value_at(mapping: dict[str, Any], path: str) -> Any:
    """The value at a path of keys separated by dots; None if it does not exist.

    >>> value_at({"check": {"port": 8008}}, "check.port"), value_at({"bind": ""}, "check.port")
    (8008, None)
    """
    value: Any = mapping
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def places(host: Host, role: str) -> Iterator[Place]:
    """Where the role will listen on the host, as far as its inputs are valid."""
    if role not in host.roles:
        return
    for entry in services()[role].listens:
        for read in readers(host, entry):
            for text in listed(read(entry.endpoints)):
                if place := split_place(text):
                    yield Place(role, entry.each or entry.endpoints, *place)
            ports = entry.ports or ((port,) if (port := whole(read(entry.port))) else ())
            for address in listed(read(entry.addresses)):
                for port in ports:
                    yield Place(role, entry.each or entry.port or entry.addresses, address, port)


def accepts(server: Host, role: str, address: str, port: int) -> bool:
    """Whether the role listens on the server at the address, or name, that a client uses."""
    wanted = server.address if address == server.name else address
    return any(place.meets(str(wanted), port) for place in places(server, role))


def targets_of(bouncer: Host, source: str = "pgbouncer_databases") -> Iterator[tuple[str, str, int]]:
    """Database, address and port of each connection string in the input."""
    databases = bouncer.inputs.get(source)
    for name, parts in databases.items() if isinstance(databases, dict) else ():
        for address in str(parts.get("host") or "").split(",") if isinstance(parts, dict) else ():
            if address and not address.startswith("/"):  # the directory of a socket
                yield str(name), address.strip(), int(parts.get("port") or 5432)
