"""Addresses and ports: where a role listens, and which server a client looks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..fleet.inputs import mappings, whole
from ..fleet.model import Host, is_every_address, is_loopback, same_address
from ..fleet.services import Dials, Listens, services


@dataclass(frozen=True)
class Place:
    """Where a role listens: the input that says so, address and port."""

    role: str
    source: str
    address: str
    port: int

    def meets(self, address: str, port: int) -> bool:
        """Whether two programs cannot listen at both."""
        return self.port == port and (meeting(self.address, address) or is_every_address(self.address))


def meeting(one: str, other: str) -> bool:
    """Whether a program that listens at the second is in the way of one that wants the first."""
    if is_every_address(other):
        return True
    return same_address(one, other) or (is_loopback(one) and is_loopback(other) and "localhost" in (one, other))


def split_place(text: object) -> tuple[str, int] | None:
    """Address and port of C(address:port); None if it is not that."""
    address, _, port = str(text).rpartition(":")
    valid = address and port.isdigit() and 0 < int(port) < 65536
    return (address.removeprefix("[").removesuffix("]"), int(port)) if valid else None


def listed(value: object) -> list[str]:
    """The entries of an input that is a list, the values of one that is a mapping, or one text of several separated by commas."""
    value = list(value.values()) if isinstance(value, dict) else value
    entries = value if isinstance(value, list) else str(value or "").split(",")
    return [text for entry in entries if (text := str(entry).strip())]


def readers(host: Host, entry: Listens | Dials) -> Iterator[Callable[[str], Any]]:
    """What looks up the names in a ``listens`` or ``dials``: among the host's inputs, or in each mapping of ``each``."""
    if not entry.each:
        yield host.inputs.get
    for mapping in mappings(host, entry.each) if entry.each else ():
        yield partial(value_at, mapping)


def value_at(mapping: dict[str, Any], path: str) -> Any:
    """The value at a path of keys with dots between them; None if nothing is there.

    >>> value_at({"check": {"port": 8008}}, "check.port"), value_at({"bind": ""}, "check.port")
    (8008, None)
    """
    value: Any = mapping
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def places(host: Host, role: str) -> Iterator[Place]:
    """Where the role will listen on the host, as far as its inputs are sound."""
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
    """Whether the role listens on the server where a client looks for it by this address or name."""
    wanted = server.address if address == server.name else address
    return any(place.meets(str(wanted), port) for place in places(server, role))


def targets_of(bouncer: Host, source: str = "pgbouncer_databases") -> Iterator[tuple[str, str, int]]:
    """Database, address and port of each connection string of the bouncer, by the input that holds them."""
    databases = bouncer.inputs.get(source)
    for name, parts in databases.items() if isinstance(databases, dict) else ():
        for address in str(parts.get("host") or "").split(",") if isinstance(parts, dict) else ():
            if address and not address.startswith("/"):  # the directory of a socket
                yield str(name), address.strip(), int(parts.get("port") or 5432)
