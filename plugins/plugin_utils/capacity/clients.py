"""Which processes a host runs, and whom they connect to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..fleet.inputs import mapping, mappings, number, whole
from ..fleet.model import Fleet, Host
from ..sizing.celery_worker import worker_programs
from ..sizing.producer import web_processes

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# Celery's own default of broker_pool_limit: connections that one process keeps for publishing.
BROKER_POOL_LIMIT = 10


def database_connections(host: Host) -> int:
    """Connections that the programs of a host hold at once: tasks and web threads, each with its own."""
    tasks = sum(program.tasks for program in worker_programs(host))
    threads = web_processes(host) * (number(host, "producer_threads") or 1)
    each = number(host, "application_database_connections")
    return (tasks + threads) * (1 if each is None else each)


def broker_connections(host: Host) -> int:
    """Counted on running hosts (RabbitMQ 4.0, Celery 5.6): a worker program keeps three (it consumes, sends events,
    answers commands), a process that publishes one, a web process one for each thread up to broker_pool_limit."""
    limit = whole(mapping(host, "application_celery_settings").get("broker_pool_limit")) or BROKER_POOL_LIMIT
    workers = sum(
        3 + program.processes * (1 if program.processes == program.tasks else limit) for program in worker_programs(host)
    )
    beat = 1 if "celery_worker" in host.roles and host.inputs.get("celery_worker_beat") is True else 0
    return workers + beat + web_processes(host) * min(number(host, "producer_threads") or 1, limit)


def clients(fleet: Fleet) -> Iterable[Host]:
    return (host for host in fleet.hosts.values() if host.roles & {"celery_worker", "producer"})


def goes_to(client: Host, server: Host, place: Any) -> bool:
    """Whether ``place``, an address that the client uses, is the server."""
    return client.name == server.name if str(place) in LOOPBACK else str(place) in (server.address, server.name)


def uses_bouncer(client: Host, bouncer: Host) -> bool:
    """Whether the programs of the client reach their database through this PgBouncer."""
    if "pgbouncer" not in bouncer.roles or not goes_to(client, bouncer, database_place(client)):
        return False
    ports = number(client, "application_database_port"), number(bouncer, "pgbouncer_listen_port")
    return None in ports or ports[0] == ports[1]


def database_place(client: Host) -> Any:
    return client.inputs.get("application_database_host") or "127.0.0.1"


def goes_direct(fleet: Fleet, client: Host, server: Host) -> bool:
    """Whether the programs of the client go past every PgBouncer to this PostgreSQL."""
    bouncers = fleet.with_role("pgbouncer")
    return goes_to(client, server, database_place(client)) and not any(uses_bouncer(client, one) for one in bouncers)


def leads_to(fleet: Fleet, bouncer: Host, server: Host) -> bool:
    """Whether this PgBouncer may open connections to this PostgreSQL. One whose place is unknown may open them anywhere."""
    places = [entry["host"] for entry in mappings(bouncer, "pgbouncer_databases") if "host" in entry]
    servers = list(fleet.with_role("postgresql"))
    known = [one for one in servers if any(goes_to(bouncer, one, place) for place in places)]
    return server in (known or servers)
