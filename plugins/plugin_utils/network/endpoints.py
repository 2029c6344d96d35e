"""Addresses and ports: where a role listens, and which server a client looks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..fleet.model import Host, is_every_address, is_loopback

# Units whose processes may have a role's port: what the role itself set up in an earlier run.
UNITS = {
    "rabbitmq": ("rabbitmq-server", "epmd"),
    "postgresql": ("postgresql",),
    "pgbouncer": ("pgbouncer",),
    "producer": ("supervisor",),
}
# Whose sockets they are where a container keeps processes of others from root: no program can be seen there.
USERS = {"rabbitmq": ("rabbitmq", "epmd", "root"), "postgresql": ("postgres",), "pgbouncer": ("postgres",)}
# Units whose socket systemd itself holds.
SOCKET_UNITS = ("rabbitmq", "pgbouncer")
ERLANG_DISTRIBUTION, EPMD = 25672, 4369


@dataclass(frozen=True)
class Place:
    """Where a role listens: the input that says so, address and port."""

    role: str
    source: str
    address: str
    port: int

    def meets(self, address: str, port: int) -> bool:
        """Whether two programs cannot listen at both."""
        return self.port == port and (same_address(self.address, address) or is_every_address(self.address))


def same_address(one: str, other: str) -> bool:
    if is_every_address(other):
        return True
    return one == other or (is_loopback(one) and is_loopback(other) and "localhost" in (one, other))


def split_place(text: object) -> tuple[str, int] | None:
    """Address and port of C(address:port); None if it is not that."""
    address, _, port = str(text).rpartition(":")
    valid = address and port.isdigit() and 0 < int(port) < 65536
    return (address.removeprefix("[").removesuffix("]"), int(port)) if valid else None


def places(host: Host, role: str) -> Iterator[Place]:
    """Where the role will listen on the host, as far as its inputs are sound."""
    given = host.inputs
    if role not in host.roles:
        return
    if role == "rabbitmq":
        for text in given.get("rabbitmq_listeners_ssl") or []:
            if place := split_place(text):
                yield Place(role, "rabbitmq_listeners_ssl", *place)
        if address := given.get("rabbitmq_distribution_address"):
            yield Place(role, "rabbitmq_distribution_address", str(address), ERLANG_DISTRIBUTION)
            yield Place(role, "rabbitmq_distribution_address", str(address), EPMD)
    elif role == "producer":
        if place := split_place(given.get("producer_bind")):
            yield Place(role, "producer_bind", *place)
    else:
        listen, port = {
            "postgresql": ("postgresql_listen_addresses", "postgresql_port"),
            "pgbouncer": ("pgbouncer_listen_addr", "pgbouncer_listen_port"),
        }[role]
        number, named = host.number(port), given.get(listen)
        for address in (named if isinstance(named, list) else str(named or "").split(",")) if number else []:
            yield Place(role, port, str(address).strip(), int(number or 0))


def accepts(server: Host, role: str, address: str, port: int) -> bool:
    """Whether the role listens on the server where a client looks for it by this address or name."""
    wanted = server.address if address == server.name else address
    return any(place.meets(str(wanted), port) for place in places(server, role))


def targets_of(bouncer: Host) -> Iterator[tuple[str, str, int]]:
    """Database, address and port of each connection string of the bouncer."""
    databases = bouncer.inputs.get("pgbouncer_databases")
    for name, parts in databases.items() if isinstance(databases, dict) else ():
        for address in str(parts.get("host") or "").split(",") if isinstance(parts, dict) else ():
            if address and not address.startswith("/"):  # the directory of a socket
                yield str(name), address.strip(), int(parts.get("port") or 5432)
