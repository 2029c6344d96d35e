"""Addresses and ports that two programs want, that another program occupies, or that are malformed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from ..fleet.model import Fleet, Host, bracketed, ip, is_every_address, is_loopback
from ..fleet.reach import split_place
from ..fleet.services import services
from ..network.endpoints import places

FIRST_UNPRIVILEGED = 1024


def duplicate_ports(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        endpoints = [place for role in services() for place in places(host, role)]
        for first, second in combinations(endpoints, 2):
            meets = first.meets(second.address, second.port) or second.meets(first.address, first.port)
            if first.source != second.source and meets:
                yield (
                    f"{host.name}: {first.source} and {second.source} both want port {first.port} on {first.address}. "
                    f"Give one of them another port."
                )


def occupied_ports(fleet: Fleet) -> Iterator[str]:
    """A port that another program of the host occupies; the role's programs may keep it."""
    for host in fleet.hosts.values():
        for place in (place for role in services() for place in places(host, role)):
            for socket in host.measured.get("listening") or []:
                if place.meets(socket["address"], socket["port"]) and not belongs(host, place.role, socket):
                    yield (
                        f"{host.name}: {place.source} wants port {place.port} on {place.address}, which "
                        f"{holder(socket)} occupies. Stop that, or choose another port."
                    )


def privileged_ports(fleet: Fleet) -> Iterator[str]:
    """A port that only root may open. supervisord runs as root and opens the producer's; the other services do not."""
    for host in fleet.hosts.values():
        for place in (place for role, service in services().items() if not service.sockets.units for place in places(host, role)):
            if place.port < FIRST_UNPRIVILEGED:
                yield (
                    f"{host.name}: {place.source} is port {place.port}, but {place.role} does not run as root, and only root may "
                    f"open ports below {FIRST_UNPRIVILEGED}. Choose a port from {FIRST_UNPRIVILEGED} on."
                )


def belongs(host: Host, role: str, socket: dict[str, str]) -> bool:
    """Whether the socket belongs to the role, from an earlier run."""
    service = services()[role]
    # An application chooses the names of its processes, so a name proves nothing.
    held_by_systemd = socket["program"] == "systemd" and socket.get("user") in (None, "root") and service.sockets.by_systemd
    # In a container, root cannot see the program of another account's socket; the account must do.
    accounts = service.sockets.accounts or (host.inputs.get("application_user"),)
    unseen = not socket["program"] and socket.get("user") in accounts
    return held_by_systemd or unseen or (socket["unit"] or "").startswith(service.own_units)


def holder(socket: dict[str, str]) -> str:
    unit = f" of {socket['unit']}" if socket["unit"] else ""
    return f"the program {socket['program']}{unit}" if socket["program"] else "a program that this account cannot see"


def postgresql_open_to_all(fleet: Fleet) -> Iterator[str]:
    for host in fleet.with_role("postgresql"):
        for place in places(host, "postgresql"):
            if is_every_address(place.address):
                yield (
                    f"{host.name}: postgresql_listen_addresses holds {place.address}, which is every address of the host, "
                    f"including public ones. Name localhost and the private address."
                )


def malformed_addresses(fleet: Fleet) -> Iterator[str]:
    for host in fleet.with_role("producer"):
        text = host.inputs.get("producer_bind")
        place = split_place(text)
        if text is not None and place is None:
            yield f"{host.name}: producer_bind is '{text}', which is not address:port, e.g. 10.0.0.41:8000. Correct it."
        elif place and str(text) != f"{bracketed(place[0])}:{place[1]}":
            yield (
                f"{host.name}: producer_bind is '{text}', but an IPv6 address needs brackets before a port. Write "
                f"\"{{{{ topology_address | grunnfjell.platform.bracketed }}}}:{place[1]}\" or '[{place[0]}]:{place[1]}'."
            )
    for host in fleet.hosts.values():
        for source, address in names_used(host):
            if re.fullmatch(r"[\d.]+", address) and ip(address) is None:
                yield f"{host.name}: {source} holds {address}, which is not an address: four numbers from 0 to 255. Correct it."


def distribution_over_ipv6(fleet: Fleet) -> Iterator[str]:
    """IPv6 addresses for Erlang's distribution."""
    for host in fleet.with_role("rabbitmq"):
        address = host.inputs.get("rabbitmq_distribution_address")
        if is_ipv6(address):
            yield (
                f"{host.name}: rabbitmq_distribution_address is {address}, but Erlang's nodes connect to each other over IPv4. "
                f"Set an IPv4 address of the host, or leave it at 127.0.0.1."
            )


def is_ipv6(text: Any) -> bool:
    address = ip(text)
    return address is not None and address.version == 6


# Inputs that hold the address or the name of a server, or a list of them.
SERVERS = (
    "application_broker_hosts",
    "application_database_host",
    "postgresql_listen_addresses",
    "pgbackrest_repository_hosts",
    "pgbackrest_database_hosts",
)


def names_used(host: Host) -> Iterator[tuple[str, str]]:
    """Input and address, or name, of each server that a host connects to."""
    if host.address:
        yield "topology_address", host.address
    for source in SERVERS:
        named = host.inputs.get(source)
        for address in named if isinstance(named, list) else [named] if named else []:
            yield source, str(address)
    databases = host.inputs.get("pgbouncer_databases")
    for parts in databases.values() if isinstance(databases, dict) else ():
        for address in str(parts.get("host") or "").split(",") if isinstance(parts, dict) else ():
            yield "pgbouncer_databases", address.strip()


def names_to_resolve(host: Host) -> dict[str, str]:
    """Names that the host must resolve → the input that holds them, without those in its hosts file."""
    written = host.inputs.get("host_names")
    known = set(written) if isinstance(written, dict) else set()
    return {
        name: source
        for source, name in names_used(host)
        if ip(name) is None and name not in known and not is_loopback(name) and re.match("[A-Za-z]", name)
    }
