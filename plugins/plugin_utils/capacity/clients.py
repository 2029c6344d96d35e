"""A host's processes and their connections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..fleet.inputs import mapping, mappings, number, whole
from ..fleet.model import Fleet, Host
from ..fleet.reach import reached
from ..sizing.celery_worker import worker_programs
from ..sizing.producer import web_processes

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# Celery's default of broker_pool_limit: connections that one process keeps for publishing.
BROKER_POOL_LIMIT = 10


def database_connections(host: Host) -> int:
    """Database connections of a host's programs at once: one or more for each task and web thread."""
    tasks = sum(program.tasks for program in worker_programs(host))
    threads = web_processes(host) * (number(host, "producer_threads") or 1)
    connections = number(host, "application_database_connections")
    return (tasks + threads) * (1 if connections is None else connections)


def broker_connections(host: Host) -> int:
    """Counted on running hosts (RabbitMQ 4.0, Celery 5.6): a worker program has three (to consume, to send events, to
    answer commands), a publishing process one, a web process one for each thread up to broker_pool_limit."""
    limit = whole(mapping(host, "application_celery_settings").get("broker_pool_limit")) or BROKER_POOL_LIMIT
    workers = sum(
        3 + program.processes * (1 if program.processes == program.tasks else limit) for program in worker_programs(host)
    )
    beat = 1 if "celery_worker" in host.roles and host.inputs.get("celery_worker_beat") is True else 0
    return workers + beat + web_processes(host) * min(number(host, "producer_threads") or 1, limit)


def clients(fleet: Fleet) -> Iterable[Host]:
    return (host for host in fleet.hosts.values() if host.roles & {"celery_worker", "producer"})


def goes_to(client: Host, server: Host, address: Any) -> bool:
    """Whether ``address``, as the client uses it, is the server."""
    return client.name == server.name if str(address) in LOOPBACK else str(address) in (server.address, server.name)


def uses_bouncer(client: Host, bouncer: Host) -> bool:
    """Whether the programs of the client reach their database through this PgBouncer."""
    if "pgbouncer" not in bouncer.roles or not goes_to(client, bouncer, database_address(client)):
        return False
    ports = number(client, "application_database_port"), number(bouncer, "pgbouncer_listen_port")
    return None in ports or ports[0] == ports[1]


def database_address(client: Host) -> Any:
    return client.inputs.get("application_database_host") or "127.0.0.1"


def goes_direct(fleet: Fleet, client: Host, server: Host) -> bool:
    """Whether the programs of the client connect to this PostgreSQL without a PgBouncer."""
    bouncers = fleet.with_role("pgbouncer")
    return goes_to(client, server, database_address(client)) and not any(uses_bouncer(client, host) for host in bouncers)


def leads_to(fleet: Fleet, bouncer: Host, server: Host) -> bool:
    """Whether this PgBouncer may open connections to this PostgreSQL. With no known server it may open them to any.

    Through HAProxy it may open them to each server behind it: any of them may be the primary.
    """
    servers = list(fleet.with_role("postgresql"))
    entries = [entry for entry in mappings(bouncer, "pgbouncer_databases") if "host" in entry]
    known = [
        candidate
        for entry in entries
        for candidate, _, _ in reached(fleet, bouncer, str(entry["host"]), whole(entry.get("port")) or 5432)
        if candidate in servers
    ]
    return server in (known or servers)
