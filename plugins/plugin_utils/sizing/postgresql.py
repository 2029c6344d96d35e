"""The arithmetic and the rules of role postgresql."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..fleet.inputs import number
from ..fleet.model import Host
from ..fleet.units import MIB, mib

GIB = 1024**3

# The rest is for the kernel, page tables and other daemons; the host is dedicated to the database.
USABLE_SHARE = 0.9
# PostgreSQL's manual, "Resource Consumption": a quarter of memory; more seldom helps because of the page cache.
SHARED_BUFFERS_SHARE = 0.25
# Above this, checkpoints and the buffer mapping cost more than the second cache level gains.
SHARED_BUFFERS_MAX = 32 * GIB
# shared_buffers plus the kernel's cache of the same files: an estimate for the planner, nothing is allocated.
EFFECTIVE_CACHE_SHARE = 0.75
MAINTENANCE_SHARE = 1 / 32
# Before 17, VACUUM cannot use more than this.
MAINTENANCE_MAX = 1 * GIB
# Three autovacuum workers (upstream's default) and one CREATE INDEX may each take maintenance_work_mem at once.
MAINTENANCE_USERS = 4
# Private memory of an idle backend that has run some queries: caches of catalogues and plans.
BACKEND_BYTES = 3 * MIB
# Below this, sorts of a few thousand rows go to disk.
WORK_MEM_MIN = 1 * MIB
# A job platform's queries are short; one hash join may take hash_mem_multiplier (2) times this.
WORK_MEM_MAX = 64 * MIB
# Upstream's default is the floor; above it, WAL for one shared_buffers' worth of dirty pages between checkpoints.
MAX_WAL_MIN = 1 * GIB
MAX_WAL_MAX = 16 * GIB

# Shorter ones can be guessed from a stolen verifier, and Ansible would censor every word that equals one.
PASSWORD_MIN = 12

NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Settings of the role without an input: the rules' file, password hashing, encryption. The log's content (log_*) is fixed too,
# since it could contain the applications' data.
NO_INPUT = ("hba_file", "password_encryption", "ssl", "ssl_ciphers")

RESERVED_ROLES = {"postgres", "public", "none", "all"}
RESERVED_DATABASES = {"postgres", "template0", "template1", "all", "sameuser", "samerole", "replication"}


def _mib(size: float) -> str:
    return f"{int(size) // MIB}MB"


def _size(value: Any) -> int:
    """A whole number of bytes, which is the unit of facts."""
    try:
        size = int(value)
    except (TypeError, ValueError):
        raise AnsibleFilterError(f"postgresql_memory_bytes is {value!r}: give a whole number of bytes") from None
    if size <= 0:
        raise AnsibleFilterError(f"postgresql_memory_bytes is {size}: give the host's memory in bytes")
    return size


def fixed_bytes(memory: int) -> tuple[int, int]:
    """shared_buffers and maintenance_work_mem of a host, in bytes."""
    shared = min(int(memory * SHARED_BUFFERS_SHARE), SHARED_BUFFERS_MAX)
    maintenance = min(int(memory * MAINTENANCE_SHARE), MAINTENANCE_MAX)
    return shared, maintenance


def connections_that_fit(memory: int) -> int:
    """Number of backends that fit into a host's memory with the smallest work_mem."""
    shared, maintenance = fixed_bytes(memory)
    rest = memory * USABLE_SHARE - shared - MAINTENANCE_USERS * maintenance
    return max(0, int(rest // (BACKEND_BYTES + WORK_MEM_MIN)))


def postgresql_sizes(memory_bytes: Any, max_connections: Any) -> dict[str, str]:
    """Memory and WAL settings of a host that is dedicated to PostgreSQL.

    shared_buffers, every connection with one work_mem, and four maintenance jobs stay within 90 % of memory.
    """
    memory, connections = _size(memory_bytes), int(max_connections)
    fit = connections_that_fit(memory)
    if connections > fit:
        raise AnsibleFilterError(
            f"postgresql_max_connections is {connections}, but {memory // MIB} MiB of memory are enough for {fit} connections "
            f"at most. Lower the pools that PgBouncer may open (default_pool_size, reserve_pool_size, fewer PgBouncers), "
            f"or give the database host more memory."
        )
    shared, maintenance = fixed_bytes(memory)
    rest = memory * USABLE_SHARE - shared - MAINTENANCE_USERS * maintenance
    work = min(rest / connections - BACKEND_BYTES, WORK_MEM_MAX)
    max_wal = min(max(shared, MAX_WAL_MIN), MAX_WAL_MAX)
    return {
        "shared_buffers": _mib(shared),
        "effective_cache_size": _mib(memory * EFFECTIVE_CACHE_SHARE),
        "work_mem": f"{int(work) // 1024}kB",
        "maintenance_work_mem": _mib(maintenance),
        "max_wal_size": _mib(max_wal),
        # WAL files up to this size are recycled: a quarter keeps a burst cheap without occupying the disk.
        "min_wal_size": _mib(max_wal // 4),
    }


def postgresql_settings(own: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, str]:
    """The lines of conf.d: the role's keys and the operator's; refuses keys set by both."""
    twice = sorted(set(own) & {str(key).lower() for key in parameters})
    if twice:
        inputs = [f"postgresql_{key}" for key in twice if key not in NO_INPUT and not key.startswith("log_")]
        remedy = f"Set {', '.join(inputs)} instead." if inputs else "Take it out: no input changes it."
        raise AnsibleFilterError(f"postgresql_parameters names {', '.join(twice)}, which the role sets itself. {remedy}")
    settings = {**own, **parameters}
    return {str(key): postgresql_value(settings[key]) for key in sorted(settings)}


def postgresql_value(value: Any) -> str:
    """A value as postgresql.conf wants it between single quotes."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        value = ", ".join(str(item) for item in value)
    text = str(value)
    if "\n" in text:
        raise AnsibleFilterError(f"a parameter's value holds a line break: {text!r}")
    return text.replace("\\", "\\\\").replace("'", "''")


def _networks(addresses: Iterable[str]) -> list[str]:
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for address in addresses:
        try:
            network = ipaddress.ip_network(str(address), strict=False)
        except ValueError:
            raise AnsibleFilterError(
                f"postgresql_client_addresses holds {address!r}: give an address or a network in CIDR form, not a name"
            ) from None
        if network.prefixlen == 0:
            raise AnsibleFilterError(
                f"postgresql_client_addresses holds {address!r}, which is everybody: name the hosts that run PgBouncer"
            )
        networks.append(network)
    four = ipaddress.collapse_addresses(n for n in networks if n.version == 4)
    six = ipaddress.collapse_addresses(n for n in networks if n.version == 6)
    return [str(n) for n in [*four, *six]]


def postgresql_hba_rules(
    databases: list[Mapping[str, Any]],
    client_addresses: Iterable[str],
    auth_query_role: str = "",
    roles: Iterable[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Who may come over the network: exactly the declared roles, and the logins that act as one, each to its own database."""
    second: dict[str, list[str]] = {}
    for role in roles:
        second.setdefault(role.get("acts_as") or "", []).append(role["name"])
    networks = _networks(client_addresses)
    rules = []
    for database in databases:
        users = [database["owner"], *database.get("roles", [])]
        if auth_query_role:
            users.append(auth_query_role)
        users = list(dict.fromkeys(login for user in users for login in (user, *second.get(user, []))))
        rules += [{"database": database["name"], "users": users, "address": network} for network in networks]
    return rules


def postgresql_replication_rules(addresses: Iterable[str]) -> list[str]:
    """Lines for the members of a Patroni cluster: role and certificate are paired by the map of role patroni.

    >>> postgresql_replication_rules(["10.0.0.21"])[1]
    'hostssl replication replicator 10.0.0.21/32 cert map=patroni'
    """
    lines = [
        f"hostssl {database} {role} {network} cert map=patroni"
        for network in _networks(addresses)
        for database, role in (("replication", "replicator"), ("postgres", "rewind"))
    ]
    return ["local replication replicator peer map=patroni", *lines] if lines else []


def _name_problem(kind: str, name: str, reserved: set[str]) -> list[str]:
    if not NAME.fullmatch(name):
        return [f"the {kind} {name!r} is no plain name: small letters, digits and _, at most 63, no digit first"]
    if name in reserved or name.startswith("pg_"):
        return [f"the {kind} {name!r} is PostgreSQL's own: choose another name"]
    return []


def postgresql_problems(
    databases: list[Mapping[str, Any]],
    roles: list[Mapping[str, Any]],
    passwords: Mapping[str, str],
    auth_query_role: str = "",
    databases_removed: Iterable[str] = (),
) -> list[str]:
    """Everything that is wrong with the declared databases and roles; never a word of a password."""
    problems: list[str] = []
    role_names = [str(role["name"]) for role in roles]
    database_names = [str(database["name"]) for database in databases]
    for kind, names, reserved in (("role", role_names, RESERVED_ROLES), ("database", database_names, RESERVED_DATABASES)):
        for name in dict.fromkeys(names):
            problems += _name_problem(kind, name, reserved)
        problems += [f"the {kind} {name!r} is declared twice" for name in sorted({n for n in names if names.count(n) > 1})]
    for database in databases:
        for name in [database["owner"], *database.get("roles", [])]:
            if name not in role_names:
                problems.append(f"database {database['name']!r} names the role {name!r}, which postgresql_roles does not declare")
    if auth_query_role:
        problems += _name_problem("auth_query role", auth_query_role, RESERVED_ROLES)
        if any(role["name"] == auth_query_role and role.get("login", True) for role in roles):
            problems.append(
                f"postgresql_auth_query_role {auth_query_role!r} is also in postgresql_roles: "
                "nobody else may use the role that reads verifiers"
            )
    silent = {str(role["name"]) for role in roles if not role.get("login", True)}
    for name in dict.fromkeys([*role_names, *([auth_query_role] if auth_query_role else [])]):
        if name in silent:
            continue
        password = passwords.get(name)
        if not password:
            problems.append(f"role {name!r} has no password: add it to postgresql_role_passwords")
        elif not (isinstance(password, str) and password.isascii() and password.isprintable()):
            # Clients disagree about SASLprep, so a password beyond ASCII works only with some.
            problems.append(f"role {name!r} has a password that is not printable ASCII text: generate another")
        elif len(password) < PASSWORD_MIN:
            problems.append(f"role {name!r} has a password shorter than {PASSWORD_MIN} characters: generate another")
    for role in roles:
        problems += _attribute_problems(role)
        if role.get("acts_as") and role["acts_as"] not in [*role_names, auth_query_role]:
            problems.append(f"role {role['name']!r} acts as {role['acts_as']!r}, which postgresql_roles does not declare")
    for name in databases_removed:
        if name in database_names:
            problems.append(
                f"database {name!r} is both in postgresql_databases and in postgresql_databases_removed: "
                "take it out of one of them"
            )
        if name in RESERVED_DATABASES:
            problems.append(f"database {name!r} belongs to PostgreSQL and cannot be in postgresql_databases_removed")
    return problems


def _attribute_problems(role: Mapping[str, Any]) -> list[str]:
    problems = []
    limit = role.get("connection_limit", -1)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < -1:
        problems.append(f"role {role['name']!r} has connection_limit {limit!r}: a whole number, -1 is no limit")
    if role.get("valid_until"):
        try:
            datetime.datetime.fromisoformat(str(role["valid_until"]))
        except ValueError:
            problems.append(
                f"role {role['name']!r} has valid_until {role['valid_until']!r}: write a date or a time, "
                "for example 2027-01-31 or 2027-01-31T12:00:00+01:00"
            )
    return problems


UNITS = {"": 1, "B": 1, "kB": 1024, "MB": MIB, "GB": 1024 * MIB, "TB": 1024 * 1024 * MIB}


def postgresql_bytes(size: object, bare: int) -> int | None:
    """A memory setting in bytes; ``bare`` is the unit of a number without one."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB)?\s*", str(size))
    return int(float(match[1]) * (UNITS[match[2]] if match[2] else bare)) if match else None


def memory_parts(host: Host) -> list[tuple[str, int]] | None:
    """PostgreSQL's memory in bytes with every connection active, part by part; None if an input is unknown."""
    connections = number(host, "postgresql_max_connections")
    shared = postgresql_bytes(host.inputs.get("postgresql_shared_buffers"), 8192)
    work = postgresql_bytes(host.inputs.get("postgresql_work_mem"), 1024)
    maintenance = postgresql_bytes(host.inputs.get("postgresql_maintenance_work_mem"), 1024)
    if connections is None or shared is None or work is None or maintenance is None:
        return None
    return [
        ("shared_buffers", shared),
        (f"{connections} connections × (work_mem {mib(work)} + {mib(BACKEND_BYTES)})", connections * (work + BACKEND_BYTES)),
        (f"{MAINTENANCE_USERS} × maintenance_work_mem", MAINTENANCE_USERS * maintenance),
    ]
