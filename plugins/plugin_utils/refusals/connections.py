"""Connections that the fleet's hosts would ask for and not get."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ..fleet.model import Fleet, Host, bracketed, ip, is_loopback, names_of
from ..network.endpoints import accepts, targets_of


def brokers_that_nobody_answers(fleet: Fleet) -> Iterator[str]:
    for host in (*fleet.with_role("celery_worker"), *fleet.with_role("producer")):
        named, port = host.inputs.get("application_broker_hosts"), host.number("application_broker_port")
        if named == []:
            yield f"{host.name}: application_broker_hosts is empty, so no job finds a broker. Name the broker's address."
        for address in named if isinstance(named, list) else []:
            server = fleet.at(str(address), host)
            if server is None or port is None:
                continue
            if "rabbitmq" not in server.roles:
                yield (
                    f"{host.name}: application_broker_hosts names {address}, which is {server.name}, and runs no broker. "
                    f"Name a host of the group {fleet.groups_of('rabbitmq')}."
                )
            elif is_loopback(str(address)):
                yield (
                    f"{host.name}: application_broker_hosts names {address}, and the broker's certificate is for {server.name} "
                    f"and {server.address}: no client would believe it there. Name {server.address}."
                )
            elif not accepts(server, "rabbitmq", str(address), int(port)):
                wanted = f"{bracketed(str(address))}:{port}"
                yield (
                    f"{host.name}: its application looks for the broker at {wanted}, and rabbitmq_listeners_ssl of "
                    f"{server.name} is {listed(server.inputs.get('rabbitmq_listeners_ssl'))}. "
                    f"Add {wanted} there, or correct application_broker_hosts and application_broker_port."
                )


def databases_that_nobody_answers(fleet: Fleet) -> Iterator[str]:
    for host in (*fleet.with_role("celery_worker"), *fleet.with_role("producer")):
        address, port = host.inputs.get("application_database_host"), host.number("application_database_port")
        server = fleet.at(str(address), host) if address else None
        # Without a password the application gets no database.
        if server is None or port is None or not host.inputs.get("application_database_password"):
            continue
        serving = [role for role in ("pgbouncer", "postgresql") if role in server.roles]
        if not serving:
            where = "it runs no PgBouncer" if server is host else f"{server.name} runs neither PgBouncer nor PostgreSQL"
            yield (
                f"{host.name}: application_database_host is {address}, and {where}. "
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
                f"{host.name}: its application goes to {address} without TLS, and the PgBouncer of {server.name} takes nobody "
                f"without (it listens on {listed(server.inputs.get('pgbouncer_listen_addr'))}, with one rule for all). "
                f"Set application_database_host to the address beyond loopback, or let it listen on loopback only."
            )
        elif not any(accepts(server, role, str(address), int(port)) for role in serving):
            yield (
                f"{host.name}: its application looks for the database at {address}:{port}, where {server.name} does not listen. "
                f"Set pgbouncer_listen_addr and pgbouncer_listen_port of {server.name} to it, "
                f"or correct application_database_host and application_database_port."
            )


def servers_that_nobody_answers(fleet: Fleet) -> Iterator[str]:
    """A bouncer's way to PostgreSQL: the host, the port, and whether it may come."""
    for bouncer in fleet.with_role("pgbouncer"):
        for database, address, port in targets_of(bouncer):
            server = fleet.at(address, bouncer)
            if server is None:
                continue
            entry = f"{bouncer.name}: pgbouncer_databases['{database}']"
            if "postgresql" not in server.roles:
                yield (
                    f"{entry} names {address}, which is {server.name}, and runs no PostgreSQL. "
                    f"Name a host of the group {fleet.groups_of('postgresql')}."
                )
            elif not accepts(server, "postgresql", address, port):
                yield (
                    f"{entry} is {address}:{port}, and {server.name} listens on "
                    f"{listed(server.inputs.get('postgresql_listen_addresses'))}, port {server.inputs.get('postgresql_port')}. "
                    f"Add {address} to postgresql_listen_addresses, or correct the host and the port."
                )
            elif not is_loopback(address) and not lets_in(server, bouncer.address):
                yield (
                    f"{bouncer.name} comes from {bouncer.address} to {server.name}, whose postgresql_client_addresses are "
                    f"{listed(server.inputs.get('postgresql_client_addresses'))}. Add {bouncer.address} there."
                )


def databases_that_nobody_uses(fleet: Fleet) -> Iterator[str]:
    """Hosts of the role postgresql are servers of their own: a second one is no standby of the first."""
    servers, bouncers = list(fleet.with_role("postgresql")), list(fleet.with_role("pgbouncer"))
    used = {server.name for b in bouncers for _, address, _ in targets_of(b) if (server := fleet.at(address, b))}
    idle = [server for server in servers if server.name not in used]
    if len(servers) > 1 and idle and bouncers:
        yield (
            f"The group {fleet.groups_of('postgresql')} has {len(servers)} hosts, and no pgbouncer_databases names "
            f"{names_of(idle)}. "
            f"The role does not build a standby: it would keep nothing. Take {names_of(idle)} out of the group, "
            f"or name it in pgbouncer_databases."
        )


def lets_in(server: Host, address: str | None) -> bool:
    """Whether pg_hba.conf will hold a line for the address; what is no network the role refuses itself."""
    client, networks = ip(address), server.inputs.get("postgresql_client_addresses")
    if client is None or not isinstance(networks, list):
        return True
    try:
        return any(client in ipaddress.ip_network(str(network), strict=False) for network in networks)
    except ValueError:
        return True


def listed(values: object) -> str:
    return ", ".join(str(value) for value in values) if isinstance(values, list) and values else str(values or "nothing")
