"""Why a PgBouncer would not always reach the primary of a Patroni cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..fleet.inputs import mapping, mappings
from ..fleet.model import Fleet, Host, is_loopback, names_of
from ..network.endpoints import listed, split_place, targets_of
from .connections import lets_in

DOCS = "docs/patroni.md"


def database_clients(fleet: Fleet) -> Iterator[str]:
    members = sorted(fleet.with_role("patroni"), key=lambda host: host.name)
    for bouncer in fleet.with_role("pgbouncer") if members else ():
        for database, address, port in targets_of(bouncer):
            entry = f"{bouncer.name}: pgbouncer_databases['{database}']"
            listener = _listener(bouncer, address, port)
            server = fleet.at(address, bouncer)
            if listener is not None:
                yield from _through_haproxy(fleet, bouncer, members, listener, address)
            elif server is not None and "patroni" in server.roles:
                yield (
                    f"{entry} names {address}, one member of the cluster of {names_of(members)}: after a failover it takes no "
                    f"writes. Name HAProxy on {bouncer.name} instead ({DOCS})."
                )


def _listener(host: Host, address: str, port: int) -> dict[str, Any] | None:
    """HAProxy's listener on the host at the address, or at the name that its hosts file has for it."""
    at = str(mapping(host, "host_names").get(address, address))
    if "haproxy" not in host.roles or not is_loopback(at):
        return None
    found = ((listener, split_place(listener.get("bind"))) for listener in mappings(host, "haproxy_listeners"))
    return next((listener for listener, place in found if place and place[1] == port), None)


def _through_haproxy(fleet: Fleet, bouncer: Host, members: list[Host], listener: dict[str, Any], address: str) -> Iterator[str]:
    endpoints = [place for text in listed(listener.get("servers")) if (place := split_place(text))]
    behind = {server.name for at, _ in endpoints if (server := fleet.at(at, bouncer))}
    name = listener.get("name")
    if not behind & {member.name for member in members}:
        return
    if absent := [member for member in members if member.name not in behind]:
        yield (
            f"{bouncer.name}: haproxy_listeners: '{name}' lacks {names_of(absent)}, so its clients would not find that member "
            f"when it is the primary. Add it to its servers."
        )
    if not listener.get("exclusive") or _check(listener).get("path") not in ("/primary", "/master", "/leader"):
        yield (
            f"{bouncer.name}: haproxy_listeners: '{name}' may send writes to a standby. Set exclusive: true, and path: /primary "
            f"in its check ({DOCS})."
        )
    unnamed = [
        member
        for member in members
        if address not in (member.name, member.address, *(member.inputs.get("postgresql_names") or []))
    ]
    if unnamed and bouncer.inputs.get("pgbouncer_server_tls_sslmode") == "verify-full":
        yield (
            f"{bouncer.name}: pgbouncer_databases names {address}, which is not in the certificate of {names_of(unnamed)}, so "
            f"PgBouncer would refuse them. Add it to postgresql_names of all members, e.g. postgresql.fleet."
        )
    if closed := [member for member in members if not lets_in(member, bouncer.address)]:
        yield (
            f"{bouncer.name} connects from {bouncer.address} through HAProxy, which is not in postgresql_client_addresses of "
            f"{names_of(closed)}. Add it there."
        )


def _check(listener: dict[str, Any]) -> dict[str, Any]:
    value = listener.get("check")
    return value if isinstance(value, dict) else {}
