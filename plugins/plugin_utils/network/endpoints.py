"""Addresses and ports: where a role listens, and which server a client looks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..fleet.model import Host, is_every_address, is_loopback, same_address
from ..fleet.services import services


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
    """The entries of an input that is a list, or one text of several separated by commas."""
    entries = value if isinstance(value, list) else str(value or "").split(",")
    return [text for entry in entries if (text := str(entry).strip())]


def places(host: Host, role: str) -> Iterator[Place]:
    """Where the role will listen on the host, as far as its inputs are sound."""
    if role not in host.roles:
        return
    for entry in services()[role].listens:
        for text in listed(host.inputs.get(entry.endpoints)):
            if place := split_place(text):
                yield Place(role, entry.endpoints, *place)
        ports = entry.ports or ((number,) if (number := host.number(entry.port)) else ())
        for address in listed(host.inputs.get(entry.addresses)):
            for port in ports:
                yield Place(role, entry.port or entry.addresses, address, int(port))


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
