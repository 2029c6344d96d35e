"""Why the backups of a fleet cannot work, across hosts. Faults of one host's inputs: sizing/pgbackrest.py."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.inputs import mapping
from ..fleet.model import Fleet, Host, names_of
from ..sizing.pgbackrest import archive_timeout_of

GIB = 1024**3
BINDING = "postgresql_parameters: \"{{ pgbackrest_stanza | default('main') | grunnfjell.platform.pgbackrest_archiving }}\""
# An hour of lost work is more than anyone expects of archiving.
ARCHIVE_TIMEOUT_MAX = 3600


def named(host: Host, key: str) -> list[str]:
    value = host.inputs.get(key)
    return [str(name) for name in value] if isinstance(value, list) else []


def ends(fleet: Fleet) -> Iterator[tuple[Host, str, str, str]]:
    """Each host with the role, its input, each name in it, and the input with which the other end must answer."""
    inputs = ("pgbackrest_repository_hosts", "pgbackrest_database_hosts")
    for host in fleet.with_role("pgbackrest"):
        for own, other in (inputs, inputs[::-1]):
            for name in named(host, own):
                yield host, own, name, other


def unpaired_backups(fleet: Fleet) -> Iterator[str]:
    """Both ends name each other, by the names in their certificates, and agree on port, stanza and release."""
    for host, own, name, other in ends(fleet):
        peer = fleet.hosts.get(name)
        if peer is None:
            yield (
                f"{host.name}: {own} names {name}, which is not a host of the inventory. pgBackRest compares the name with the "
                f"other end's certificate: write the name from hosts.yml, not an address."
            )
        elif "pgbackrest" not in peer.roles:
            yield (
                f"{host.name}: {own} names {name}, which does not carry the role pgbackrest. Add its group to pgbackrest in "
                f"topology_roles."
            )
        elif host.name not in named(peer, other):
            yield f"{host.name}: {own} names {name}, but {other} of {name} does not name {host.name}. Correct one of them."
        elif own == "pgbackrest_repository_hosts":
            yield from disagreements(host, peer)


def partial_clusters(fleet: Fleet) -> Iterator[str]:
    """A repository host backs up one server, or every member of a cluster: each of them may be the next primary."""
    for host in fleet.with_role("pgbackrest"):
        databases = [fleet.hosts[name] for name in named(host, "pgbackrest_database_hosts") if name in fleet.hosts]
        singles = [database for database in databases if "patroni" not in database.roles]
        if singles and len(databases) > 1:
            yield (
                f"{host.name}: pgbackrest_database_hosts names {names_of(databases)}, but patroni is not on {names_of(singles)}: "
                f"a repository host backs up one server, or the members of one cluster. Keep one of them."
            )
            continue
        members = {str(name) for database in databases for name in mapping(database, "patroni_members")}
        if missing := sorted(members - {database.name for database in databases}):
            yield (
                f"{host.name}: pgbackrest_database_hosts lacks {' and '.join(missing)}, but names {names_of(databases)} of the "
                f"same cluster: nothing would be archived once {missing[0]} is the primary. Name every member."
            )


def disagreements(database: Host, repository: Host) -> Iterator[str]:
    for key in ("pgbackrest_stanza", "pgbackrest_tls_server_port"):
        here, there = database.inputs.get(key), repository.inputs.get(key)
        if here != there:
            yield f"{key} is {here} on {database.name} and {there} on {repository.name}. Set the same on both."
    if database.release and repository.release and database.release != repository.release:
        yield (
            f"{database.name} has Debian {database.release} and its repository host {repository.name} Debian "
            f"{repository.release}, but pgBackRest refuses another version of itself at the other end. Reinstall "
            f"{repository.name} with Debian {database.release}, or name another host in pgbackrest_repository_hosts."
        )
    port, used = database.inputs.get("postgresql_port"), repository.inputs.get("pgbackrest_database_port")
    if port is not None and used is not None and port != used:
        yield (
            f"{repository.name}: pgbackrest_database_port is {used}, but postgresql_port of {database.name} is {port}. "
            f"Set pgbackrest_database_port to it on both hosts."
        )


def repositories_beside_databases(fleet: Fleet) -> Iterator[str]:
    for host in fleet.with_role("pgbackrest"):
        if named(host, "pgbackrest_database_hosts") and "postgresql" in host.roles:
            yield (
                f"{host.name} carries PostgreSQL and a repository (pgbackrest_database_hosts): one lost disk would take a "
                f"database and backups. Take it out of the group {fleet.groups_of('postgresql')}, or keep the repository on "
                f"another host."
            )


def unarchived_databases(fleet: Fleet) -> Iterator[str]:
    """postgresql_parameters archives where the role is, and only there."""
    for host in fleet.with_role("postgresql"):
        parameters = mapping(host, "postgresql_parameters")
        command = str(parameters.get("archive_command") or "")
        if "pgbackrest" not in host.roles:
            if "pgbackrest" in command:
                yield (
                    f"{host.name}: archive_command in postgresql_parameters calls pgbackrest, which the host does not carry, so "
                    f"its WAL would pile up. Take the archive settings out, or add its group to pgbackrest in topology_roles."
                )
        elif named(host, "pgbackrest_repository_hosts"):
            yield from archive_faults(host, parameters.get("archive_mode"), command)


def archive_faults(host: Host, mode: object, command: str) -> Iterator[str]:
    stanza, timeout = host.inputs.get("pgbackrest_stanza"), archive_timeout_of(host)
    if str(mode) == "always":
        yield (
            f"{host.name}: archive_mode in postgresql_parameters is always, which pgBackRest refuses: a standby would archive "
            f"the same WAL as its primary. Write {BINDING}."
        )
    elif str(mode) not in ("on", "True") or "pgbackrest" not in command:
        yield (
            f"{host.name}: postgresql_parameters does not archive to the repository, so nothing could be restored. "
            f"Write {BINDING}."
        )
    elif f"--stanza={stanza} " not in f"{command} ":
        yield (
            f"{host.name}: archive_command is '{command}', but pgbackrest_stanza is {stanza}, so its WAL would be refused. "
            f"Write {BINDING}."
        )
    elif timeout is None or not 0 < timeout <= ARCHIVE_TIMEOUT_MAX:
        yield (
            f"{host.name}: archive_timeout in postgresql_parameters is {timeout or 0} s, but must be 1 to {ARCHIVE_TIMEOUT_MAX}: "
            f"a lost host takes all work since its last archived segment with it, and 0 never closes one. Set 15."
        )


def queues_beyond_the_disk(fleet: Fleet) -> Iterator[str]:
    """The WAL that waits for a repository host must fit the disk, or PostgreSQL stops before the limit protects it."""
    for host in fleet.with_role("pgbackrest"):
        most, free = host.number("pgbackrest_archive_push_queue_max"), (host.measured.get("disk_free_bytes") or {}).get("/var")
        if named(host, "pgbackrest_repository_hosts") and most is not None and free is not None and most > free:
            yield (
                f"{host.name}: pgbackrest_archive_push_queue_max is {most / GIB:.1f} GiB, but /var has {free / GIB:.1f} GiB "
                f"free: the disk would be full, and PostgreSQL would stop, before the limit is reached. Lower it, or give the "
                f"host a larger disk."
            )
