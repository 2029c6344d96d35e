"""Why a PgBouncer would not always reach the primary of a Patroni cluster. connections.py checks each server that it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..fleet.inputs import mappings
from ..fleet.model import Fleet, Host, names_of
from ..fleet.reach import listed, reached, split_place
from ..network.endpoints import targets_of

DOCS = "docs/patroni.md"


def clients_of_one_member(fleet: Fleet) -> Iterator[str]:
    members = sorted(fleet.with_role("patroni"), key=lambda host: host.name)
    for bouncer in fleet.with_role("pgbouncer") if members else ():
        for database, address, port in targets_of(bouncer):
            servers = [server for server, _, _ in reached(fleet, bouncer, address, port)]
            if len(servers) == 1 and servers[0] in members:
                yield (
                    f"{bouncer.name}: pgbouncer_databases['{database}'] names {address}, one member of the cluster of "
                    f"{names_of(members)}: after a failover it takes no writes. Name HAProxy on {bouncer.name} instead ({DOCS})."
                )


def listeners_of_members(fleet: Fleet) -> Iterator[str]:
    """A listener of HAProxy knows every member, and asks which one is the primary."""
    members = sorted(fleet.with_role("patroni"), key=lambda host: host.name)
    for host in fleet.with_role("haproxy") if members else ():
        for listener in mappings(host, "haproxy_listeners"):
            behind, name = _servers(fleet, host, listener), listener.get("name")
            if not behind:
                continue
            if absent := [member for member in members if member.name not in behind]:
                yield (
                    f"{host.name}: haproxy_listeners: '{name}' lacks {names_of(absent)}, so its clients would not find that "
                    f"member when it is the primary. Add it to its servers."
                )
            check = listener.get("check")
            path = check.get("path") if isinstance(check, dict) else None
            if not listener.get("exclusive") or path not in ("/primary", "/master", "/leader"):
                yield (
                    f"{host.name}: haproxy_listeners: '{name}' may send writes to a standby. Set exclusive: true, and path: "
                    f"/primary in its check ({DOCS})."
                )


def _servers(fleet: Fleet, host: Host, listener: dict[str, Any]) -> set[str]:
    """The members behind the listener, by PostgreSQL's port: another service of a member has another one."""
    places = filter(None, map(split_place, listed(listener.get("servers"))))
    return {
        server.name
        for at, port in places
        if (server := fleet.at(at, host)) and "patroni" in server.roles and server.inputs.get("patroni_port") == port
    }
