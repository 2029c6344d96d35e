"""Connections that the fleet's hosts would try to open in vain."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ..fleet.model import Fleet, Host, bracketed, ip, is_loopback, names_of
from ..fleet.reach import reached
from ..network.endpoints import accepts, targets_of


def unreachable_brokers(fleet: Fleet) -> Iterator[str]:
    for host in (*fleet.with_role("celery_worker"), *fleet.with_role("producer")):
        named, port = host.inputs.get("application_broker_hosts"), host.number("application_broker_port")
        if named == []:
            yield f"{host.name}: application_broker_hosts is empty, so no job finds a broker. Name the broker's address."
        for address in named if isinstance(named, list) else []:
            server = fleet.at(str(address), host)
            if server is None or port is None or accepts(host, "haproxy", str(address), int(port)):
                continue  # outside the fleet, or through HAProxy, whose servers broker_clusters.cluster_clients checks
            if "rabbitmq" not in server.roles:
                yield (
                    f"{host.name}: application_broker_hosts names {address}, which is {server.name}, but runs no broker. "
                    f"Name a host of the group {fleet.groups_of('rabbitmq')}."
                )
            elif is_loopback(str(address)):
                yield (
                    f"{host.name}: application_broker_hosts names {address}, but the broker's certificate is for {server.name} "
                    f"and {server.address}: no client would accept it there. Name {server.address}."
                )
            elif not accepts(server, "rabbitmq", str(address), int(port)):
                wanted = f"{bracketed(str(address))}:{port}"
                yield (
                    f"{host.name}: its application connects to the broker at {wanted}, but rabbitmq_listeners_ssl of "
                    f"{server.name} is {listed(server.inputs.get('rabbitmq_listeners_ssl'))}. "
                    f"Add {wanted} there, or correct application_broker_hosts and application_broker_port."
                )


def unreachable_databases(fleet: Fleet) -> Iterator[str]:
    for host in (*fleet.with_role("celery_worker"), *fleet.with_role("producer")):
        address, port = host.inputs.get("application_database_host"), host.number("application_database_port")
        server = fleet.at(str(address), host) if address else None
        # An application without a password has no database.
        if server is None or port is None or not host.inputs.get("application_database_password"):
            continue
        serving = [role for role in ("pgbouncer", "postgresql") if role in server.roles]
        if not serving:
            where = "it runs no PgBouncer" if server is host else f"{server.name} runs neither PgBouncer nor PostgreSQL"
            yield (
                f"{host.name}: application_database_host is {address}, but {where}. "
                f"Add {server.name} to the group {fleet.groups_of('pgbouncer')}, or set application_database_host to a "
                f"host of it."
            )
        elif (
            "pgbouncer" in serving
            and server.inputs.get("pgbouncer_client_tls_sslmode") not in (None, "disable", "allow", "prefer")
            and host.inputs.get("application_database_sslmode") == "disable"
            and accepts(server, "pgbouncer", str(address), int(port))
        ):
            yield (
                f"{host.name}: its application connects to {address} without TLS, but the PgBouncer of {server.name} requires it "
                f"(it listens on {listed(server.inputs.get('pgbouncer_listen_addr'))}, with one rule for all). "
                f"Set application_database_host to the address beyond loopback, or let it listen on loopback only."
            )
        elif not any(accepts(server, role, str(address), int(port)) for role in serving):
            yield (
                f"{host.name}: its application connects to the database at {address}:{port}, where {server.name} does not "
                f"listen. Set pgbouncer_listen_addr and pgbouncer_listen_port of {server.name} to it, or correct "
                f"application_database_host and application_database_port."
            )


def unreachable_servers(fleet: Fleet) -> Iterator[str]:
    """From a PgBouncer to PostgreSQL, through HAProxy too: the host, the port, the certificate's name, and the access rules."""
    for bouncer in fleet.with_role("pgbouncer"):
        for database, named, named_port in targets_of(bouncer):
            for server, address, port in reached(fleet, bouncer, named, named_port):
                if server is not None:
                    source = f"pgbouncer_databases['{database}']"
                    yield from unreachable_server(fleet, bouncer, source, named, server, address, port)


def unreachable_server(
    fleet: Fleet, bouncer: Host, source: str, named: str, server: Host, address: str, port: int
) -> Iterator[str]:
    """named: the place in the input.  address, port: where the connection arrives at the server."""
    entry = f"{bouncer.name}: {source}"
    names = (server.name, server.address, *(server.inputs.get("postgresql_names") or []))
    if "postgresql" not in server.roles:
        yield (
            f"{entry} names {address}, which is {server.name}, but runs no PostgreSQL. "
            f"Name a host of the group {fleet.groups_of('postgresql')}."
        )
    elif not accepts(server, "postgresql", address, port):
        yield (
            f"{entry} is {address}:{port}, but {server.name} listens on "
            f"{listed(server.inputs.get('postgresql_listen_addresses'))}, port {server.inputs.get('postgresql_port')}. "
            f"Add {address} to postgresql_listen_addresses, or correct the host and the port."
        )
    elif not is_loopback(address) and not lets_in(server, bouncer.address):
        yield (
            f"{bouncer.name} connects from {bouncer.address} to {server.name}, whose postgresql_client_addresses are "
            f"{listed(server.inputs.get('postgresql_client_addresses'))}. Add {bouncer.address} there."
        )
    elif named != address and named not in names:
        yield (
            f"{entry} reaches {server.name} through HAProxy by the name {named}, which is not in its certificate, so PgBouncer "
            f"would refuse it. Add the name to postgresql_names of all servers behind HAProxy, e.g. postgresql.fleet, and to "
            f"host_names of {bouncer.name} with 127.0.0.1."
        )


def unused_databases(fleet: Fleet) -> Iterator[str]:
    """Without Patroni, hosts of the role postgresql are separate servers: a second one is not a standby of the first."""
    servers, bouncers = list(fleet.with_role("postgresql")), list(fleet.with_role("pgbouncer"))
    used = {
        server.name
        for bouncer in bouncers
        for _, named, port in targets_of(bouncer)
        for server, _, _ in reached(fleet, bouncer, named, port)
        if server
    }
    idle = [server for server in servers if server.name not in used and "patroni" not in server.roles]
    if len(servers) > 1 and idle and bouncers:
        yield (
            f"The group {fleet.groups_of('postgresql')} has {len(servers)} hosts, but no pgbouncer_databases names "
            f"{names_of(idle)}. Only role patroni builds standbys: it would stay empty. Take {names_of(idle)} out of the "
            f"group, or name it in pgbouncer_databases."
        )


def lets_in(server: Host, address: str | None) -> bool:
    """Whether pg_hba.conf will have a line for the address. The role refuses malformed networks itself."""
    client, networks = ip(address), server.inputs.get("postgresql_client_addresses")
    if client is None or not isinstance(networks, list):
        return True
    try:
        return any(client in ipaddress.ip_network(str(network), strict=False) for network in networks)
    except ValueError:
        return True


def listed(values: object) -> str:
    return ", ".join(str(value) for value in values) if isinstance(values, list) and values else str(values or "nothing")
