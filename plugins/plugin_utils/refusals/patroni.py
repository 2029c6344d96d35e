"""Why the members of a Patroni cluster cannot form one, across hosts. Faults of one host's inputs: sizing/patroni.py."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.inputs import mapping, mappings
from ..fleet.model import Fleet, Host, same_address
from ..fleet.reach import split_place

# What must be the same on every member.
COMMON = ("patroni_scope", "patroni_restapi_port", "patroni_port", "patroni_ttl", "patroni_loop_wait", "patroni_retry_timeout")
# Input of role patroni and that of role postgresql with the same value.
BOUND = (
    ("patroni_port", "postgresql_port"),
    ("patroni_max_connections", "postgresql_max_connections"),
    ("patroni_listen_addresses", "postgresql_listen_addresses"),
)
# Settings that Patroni passes on the server's command line, with the same value for all members.
OF_PATRONI = {
    "cluster_name",
    "hot_standby",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "track_commit_timestamp",
    "wal_level",
    "wal_log_hints",
}


def members_of(fleet: Fleet) -> list[Host]:
    return sorted(fleet.with_role("patroni"), key=lambda host: host.name)


def unequal_databases(fleet: Fleet) -> Iterator[str]:
    """Every member names the same members, which are the hosts with the role, of one release and with the same settings."""
    hosts = members_of(fleet)
    group = fleet.groups_of("patroni")
    for host in hosts:
        members = host.inputs.get("patroni_members")
        if isinstance(members, dict) and members != hosts[0].inputs.get("patroni_members"):
            yield f"patroni_members is not the same on {hosts[0].name} and {host.name}. Bind it once, for the group {group}."
        if isinstance(members, dict) and (absent := sorted(set(map(str, members)) - {other.name for other in hosts})):
            yield f"{host.name}: patroni_members names {', '.join(absent)}, which is not a host of the group {group}. Correct it."
    for key in COMMON:
        values = {host.name: host.inputs.get(key) for host in hosts}
        if len({str(value) for value in values.values()}) > 1:
            which = ", ".join(f"{value} on {name}" for name, value in values.items())
            yield f"{key} is {which}, but must be the same on every member. Set it in the group_vars of {group}."
    releases = {host.name: host.release for host in hosts if host.release}
    if len(set(releases.values())) > 1:
        which = ", ".join(f"{release} on {name}" for name, release in releases.items())
        yield (
            f"The members of {group} have different releases of Debian ({which}), and so different versions of PostgreSQL, which "
            f"cannot copy each other. Install the same release on all of them."
        )


def unbound_databases(fleet: Fleet) -> Iterator[str]:
    """Role patroni starts the server of role postgresql, with that role's values, and the members may copy it."""
    for host in members_of(fleet):
        if "postgresql" not in host.roles:
            yield (
                f"{host.name} carries the role patroni and no PostgreSQL for it to run. Add it to the group "
                f"{fleet.groups_of('postgresql')}."
            )
            continue
        for own, other in BOUND:
            if str(host.inputs.get(own)) != str(host.inputs.get(other)):
                yield (
                    f"{host.name}: {own} is {host.inputs.get(own)}, but {other} is {host.inputs.get(other)}. Bind {own} to the "
                    f"value of {other}."
                )
        if idle := sorted(OF_PATRONI & set(mapping(host, "postgresql_parameters"))):
            yield (
                f"{host.name}: postgresql_parameters names {', '.join(idle)}, which Patroni sets on the command line, so "
                f"it would have no effect. Take it out."
            )
        members, allowed = host.inputs.get("patroni_members"), host.inputs.get("postgresql_replication_addresses")
        if isinstance(members, dict) and isinstance(allowed, list):
            for name, address in members.items():
                if not any(same_address(address, entry) for entry in allowed):
                    yield (
                        f"{host.name}: postgresql_replication_addresses lacks {address} ({name}), so that member could not copy "
                        f"this server. Bind it to the addresses of patroni_members."
                    )


def databases_beside_the_cluster(fleet: Fleet) -> Iterator[str]:
    """A single server with a database of the cluster: clients of either would miss the rows of the other."""
    members = members_of(fleet)
    names = {name for host in members for name in _databases(host)}
    for host in sorted(fleet.with_role("postgresql"), key=lambda host: host.name):
        if "patroni" not in host.roles and (twice := sorted(names & _databases(host))):
            yield (
                f"{host.name} has the database {', '.join(twice)} like the cluster of "
                f"{' and '.join(member.name for member in members)}, but does not carry patroni, so it would be a second one "
                f"with other rows. Add it to the group {fleet.groups_of('patroni')} and to patroni_members, or take it out of "
                f"{fleet.groups_of('postgresql')}."
            )


def _databases(host: Host) -> set[str]:
    return {str(entry.get("name")) for entry in mappings(host, "postgresql_databases")}


def databases_without_etcd(fleet: Fleet) -> Iterator[str]:
    """Patroni asks members of etcd that the fleet has."""
    for host in members_of(fleet):
        for text in host.inputs.get("patroni_etcd_hosts") or []:
            place = split_place(text)
            server = fleet.at(place[0], host) if place else None
            if server is not None and "etcd" not in server.roles:
                yield (
                    f"{host.name}: patroni_etcd_hosts names {text}, but {server.name} does not carry etcd. Add it to the group "
                    f"{fleet.groups_of('etcd')}, or correct the address."
                )
