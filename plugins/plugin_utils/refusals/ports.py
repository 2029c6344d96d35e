"""Addresses and ports that two programs want, that another program has, or that are malformed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from ..fleet.model import Fleet, Host, bracketed, ip, is_every_address, is_loopback
from ..fleet.services import services
from ..network.endpoints import places, split_place

FIRST_UNPRIVILEGED = 1024


def ports_twice(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        own = [place for role in services() for place in places(host, role)]
        for one, other in combinations(own, 2):
            if one.source != other.source and (one.meets(other.address, other.port) or other.meets(one.address, one.port)):
                yield (
                    f"{host.name}: {one.source} and {other.source} both want port {one.port} on {one.address}. "
                    f"Give one of them another port."
                )


def ports_taken(fleet: Fleet) -> Iterator[str]:
    """A port that another program of the host has; what the role itself runs there may keep it."""
    for host in fleet.hosts.values():
        for place in (place for role in services() for place in places(host, role)):
            for socket in host.measured.get("listening") or []:
                if place.meets(socket["address"], socket["port"]) and not belongs(host, place.role, socket):
                    yield (
                        f"{host.name}: {place.source} wants port {place.port} on {place.address}, which "
                        f"{holder(socket)} has. Stop that, or choose another port."
                    )


def ports_reserved(fleet: Fleet) -> Iterator[str]:
    """A port that only root may open. supervisord is root and opens the producer's; the other services are not."""
    for host in fleet.hosts.values():
        for place in (place for role, service in services().items() if not service.sockets.units for place in places(host, role)):
            if place.port < FIRST_UNPRIVILEGED:
                yield (
                    f"{host.name}: {place.source} is port {place.port}, but {place.role} runs without root, which alone may open "
                    f"ports below {FIRST_UNPRIVILEGED}. Choose a port from {FIRST_UNPRIVILEGED} on."
                )


def belongs(host: Host, role: str, socket: dict[str, str]) -> bool:
    """Whether the socket is the role's own, from an earlier run."""
    service = services()[role]
    # An application chooses its processes' names, so the name alone proves nothing.
    held_by_systemd = socket["program"] == "systemd" and socket.get("user") in (None, "root") and service.sockets.by_systemd
    # A container keeps processes of others from root: no program can be seen there, and the account has to do.
    accounts = service.sockets.accounts or (host.inputs.get("application_user"),)
    unseen = not socket["program"] and socket.get("user") in accounts
    return held_by_systemd or unseen or (socket["unit"] or "").startswith(service.own_units)


def holder(socket: dict[str, str]) -> str:
    unit = f" of {socket['unit']}" if socket["unit"] else ""
    return f"the program {socket['program']}{unit}" if socket["program"] else "a program that this account may not see"


def listening_to_everybody(fleet: Fleet) -> Iterator[str]:
    for host in fleet.with_role("postgresql"):
        for place in places(host, "postgresql"):
            if is_every_address(place.address):
                yield (
                    f"{host.name}: postgresql_listen_addresses holds {place.address}, which is every address of the host, public "
                    f"ones too. Name localhost and the private address."
                )


def places_malformed(fleet: Fleet) -> Iterator[str]:
    for host in fleet.with_role("producer"):
        text = host.inputs.get("producer_bind")
        place = split_place(text)
        if text is not None and place is None:
            yield f"{host.name}: producer_bind is '{text}', which is not address:port, e.g. 10.0.0.41:8000. Correct it."
        elif place and str(text) != f"{bracketed(place[0])}:{place[1]}":
            yield (
                f"{host.name}: producer_bind is '{text}', and an IPv6 address needs brackets before a port. Write "
                f"\"{{{{ topology_address | grunnfjell.platform.bracketed }}}}:{place[1]}\" or '[{place[0]}]:{place[1]}'."
            )
    for host in fleet.hosts.values():
        for source, address in names_used(host):
            if re.fullmatch(r"[\d.]+", address) and ip(address) is None:
                yield f"{host.name}: {source} holds {address}, which is no address: four numbers from 0 to 255. Correct it."


def without_ipv6(fleet: Fleet) -> Iterator[str]:
    """Addresses of IPv6 for Erlang's distribution."""
    for host in fleet.with_role("rabbitmq"):
        address = host.inputs.get("rabbitmq_distribution_address")
        if is_ipv6(address):
            yield (
                f"{host.name}: rabbitmq_distribution_address is {address}, and Erlang's nodes look for each other by "
                f"IPv4. Set an IPv4 address of the host, or leave it at 127.0.0.1."
            )


def is_ipv6(text: Any) -> bool:
    address = ip(text)
    return address is not None and address.version == 6


def names_used(host: Host) -> Iterator[tuple[str, str]]:
    """Input and address, or name, of whatever a host looks for."""
    if host.address:
        yield "topology_address", host.address
    for source in ("application_broker_hosts", "application_database_host", "postgresql_listen_addresses"):
        named = host.inputs.get(source)
        for address in named if isinstance(named, list) else [named] if named else []:
            yield source, str(address)
    databases = host.inputs.get("pgbouncer_databases")
    for parts in databases.values() if isinstance(databases, dict) else ():
        for address in str(parts.get("host") or "").split(",") if isinstance(parts, dict) else ():
            yield "pgbouncer_databases", address.strip()


def names_to_resolve(host: Host) -> dict[str, str]:
    """Names that the host must find an address for → the input that holds them, but for those in its own hosts file."""
    written = host.inputs.get("host_names")
    known = set(written) if isinstance(written, dict) else set()
    return {
        name: source
        for source, name in names_used(host)
        if ip(name) is None and name not in known and not is_loopback(name) and re.match("[A-Za-z]", name)
    }
