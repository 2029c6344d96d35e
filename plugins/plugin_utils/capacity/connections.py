"""Connections: clients of each PgBouncer, and the limits of PostgreSQL and RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.inputs import mapping, mappings, number, numbers, whole
from ..fleet.model import Fleet, Host
from ..sizing.patroni import CONNECTIONS as OF_PATRONI
from ..sizing.postgresql import connections_that_fit
from .clients import broker_connections, clients, database_connections, goes_direct, leads_to, uses_bouncer
from .descriptors import broker_sockets
from .line import Line, Part, parts

# PostgreSQL 16 and later have a second reserve of this name.
MORE_RESERVED = "reserved_connections"


def connection_lines(fleet: Fleet) -> Iterator[Line]:
    for bouncer in fleet.with_role("pgbouncer"):
        yield from _clients_of(fleet, bouncer)
    for server in fleet.with_role("postgresql"):
        yield from _connections_to(fleet, server)
    for broker in fleet.with_role("rabbitmq"):
        yield from _connections_to_broker(fleet, broker)


def _clients_of(fleet: Fleet, bouncer: Host) -> Iterator[Line]:
    users = [client for client in clients(fleet) if uses_bouncer(client, bouncer)]
    if (limit := number(bouncer, "pgbouncer_max_client_conn")) is not None:
        used = tuple(Part("tasks and web threads", database_connections(client), client.name) for client in users)
        total = sum(part.used for part in used)
        yield Line(
            bouncer.name,
            "clients of PgBouncer",
            limit,
            used,
            f"{total} tasks and web threads of {_hosts(len(users))} may connect to the PgBouncer on {bouncer.name}, which "
            f"accepts {limit} (pgbouncer_max_client_conn). Raise it, or lower celery_worker_concurrency or producer_threads.",
        )
    # One user and one database per application.
    served = sorted({application for client in users for application in client.applications})
    if (pairs := number(bouncer, "pgbouncer_pools")) is not None:
        yield Line(
            bouncer.name,
            "pairs of user and database",
            pairs,
            parts((application, 1) for application in served),
            f"The PgBouncer on {bouncer.name} serves {len(served)} applications ({', '.join(served)}), but its pools are counted "
            f"for {pairs}. Set pgbouncer_pools to {len(served)}.",
        )


def _connections_to(fleet: Fleet, server: Host) -> Iterator[Line]:
    """Every PgBouncer can fill its pools and also queries passwords; the server must accept all of these connections."""
    settings = numbers(server, "postgresql_max_connections", "postgresql_superuser_reserved_connections")
    if settings is None:
        return
    granted, reserved = settings
    reserved += whole(mapping(server, "postgresql_parameters").get(MORE_RESERVED)) or 0
    bouncers = [
        bouncer
        for bouncer in fleet.with_role("pgbouncer")
        if leads_to(fleet, bouncer, server) and not _without_clients(fleet, bouncer)
    ]
    direct = [client for client in clients(fleet) if goes_direct(fleet, client, server)]
    used = (
        *(Part(f"pools, {account_of(bouncer)}", connections_of(bouncer), bouncer.name) for bouncer in bouncers),
        *_sessions(fleet, bouncers),
        *(Part("tasks and web threads, without PgBouncer", database_connections(client), client.name) for client in direct),
        # Standbys use the slots of max_wal_senders, which are not counted here.
        *([Part("Patroni", OF_PATRONI, server.name)] if "patroni" in server.roles else []),
    )
    who = (
        ["Patroni"] * ("patroni" in server.roles)
        + [f"{len(bouncers)} PgBouncers"] * bool(bouncers)
        + [f"{_hosts(len(direct))} without PgBouncer"] * bool(direct)
    )
    memory = server.measured.get("memory_bytes")
    most = f" (its memory is enough for {connections_that_fit(memory)})" if memory else ""
    yield Line(
        server.name,
        "connections to PostgreSQL",
        granted - reserved,
        used,
        f"{' and '.join(who)} may open {sum(part.used for part in used)} connections to {server.name}, which grants "
        f"{granted - reserved} (postgresql_max_connections {granted} less {reserved} reserved). "
        f"Raise postgresql_max_connections{most}, or lower pgbouncer_default_pool_size.",
    )


def _sessions(fleet: Fleet, bouncers: list[Host]) -> Iterator[Part]:
    """Connections of the commands of each application's release, which run on one host at a time."""
    served = {
        name for bouncer in bouncers for client in clients(fleet) if uses_bouncer(client, bouncer) for name in client.applications
    }
    sessions = max((number(bouncer, "pgbouncer_session_pool_size") or 0 for bouncer in bouncers), default=0)
    queries = max((number(bouncer, "pgbouncer_auth_max_user_connections") or 0 for bouncer in bouncers), default=0)
    if sessions:
        account = f"commands of a release, {len(served)} × ({sessions} + {queries} for password queries)"
        yield Part(account, len(served) * (sessions + queries))


def _without_clients(fleet: Fleet, bouncer: Host) -> bool:
    """Whether all its clients are drained: PgBouncer opens server connections only for clients."""
    users = [client for client in clients(fleet) if uses_bouncer(client, bouncer)]
    return bool(users) and all(client.drained for client in users)


def connections_of(bouncer: Host) -> int:
    """The most server connections that the PgBouncer opens: pool, reserve and password queries, for each database.

    An application whose password changes has two logins, and so two pools; max_db_connections limits both together to this.
    """
    pools, size, reserve, queries = pool_of(bouncer)
    return pools * (number(bouncer, "pgbouncer_max_db_connections") or size + reserve + queries)


def account_of(bouncer: Host) -> str:
    pools, size, reserve, queries = pool_of(bouncer)
    own = number(bouncer, "pgbouncer_max_db_connections")
    if own and own != size + reserve + queries:
        return f"{pools} × {own} (pgbouncer_max_db_connections)"
    return f"{pools} × ({size} + {reserve} reserve + {queries} for password queries)"


def pool_of(bouncer: Host) -> tuple[int, int, int, int]:
    """Pools, pool size, reserve, and connections for password queries. A database's pool size counts if it is larger."""
    databases = mappings(bouncer, "pgbouncer_databases")

    def largest(default: str, *keys: str) -> int:
        own = [whole(entry.get(key)) or 0 for entry in databases for key in keys]
        return max([number(bouncer, default) or 0, *own])

    return (
        number(bouncer, "pgbouncer_pools") or 0,
        largest("pgbouncer_default_pool_size", "pool_size"),
        largest("pgbouncer_reserve_pool_size", "reserve_pool", "reserve_pool_size"),
        number(bouncer, "pgbouncer_auth_max_user_connections") or 0,
    )


def _connections_to_broker(fleet: Fleet, broker: Host) -> Iterator[Line]:
    """All connections count for each broker: clients try the brokers in turn, so the last running one gets them all."""
    limit = broker_sockets(broker)
    if limit is None:
        return
    used = tuple(Part("programs", broker_connections(client), client.name) for client in clients(fleet))
    total = sum(part.used for part in used)
    yield Line(
        broker.name,
        "connections to RabbitMQ",
        limit,
        used,
        f"{total} connections of workers and producers may reach {broker.name}, which has descriptors for {limit}. "
        f"Raise rabbitmq_nofile or the host's hard limit, or lower celery_worker_concurrency.",
    )


def _hosts(count: int) -> str:
    return f"{count} host{'s' * (count != 1)}"
