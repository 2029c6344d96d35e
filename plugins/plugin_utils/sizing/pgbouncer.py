"""The arithmetic and the rules of role pgbouncer."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..fleet.inputs import number, numbers
from ..fleet.model import Host
from ..fleet.units import MIB

# Listening sockets, the event loop, the log, libc's resolver, a certificate being read, an administrator's console.
DESCRIPTOR_MARGIN = 100
# The kernel's default limit, below which there is nothing to gain.
DESCRIPTOR_MIN = 1024
# A socket directory that does not exist.
NOWHERE = "/nonexistent"


def pgbouncer_descriptors(max_client_conn: Any, pool_size: Any, reserve_pool_size: Any, pools: Any) -> int:
    """LimitNOFILE: a descriptor for each client and each server connection that the settings allow, and a margin.

    Rounded up to a power of two, so a small change of a pool needs only a reload.
    """
    clients, size, reserve, pairs = int(max_client_conn), int(pool_size), int(reserve_pool_size), int(pools)
    if min(clients, size, pairs) < 1 or reserve < 0:
        raise AnsibleFilterError(
            f"pgbouncer_max_client_conn {clients}, pgbouncer_default_pool_size {size} and pgbouncer_pools {pairs} "
            f"must be at least 1, and pgbouncer_reserve_pool_size {reserve} at least 0"
        )
    needed = clients + (size + reserve) * pairs + DESCRIPTOR_MARGIN
    return max(DESCRIPTOR_MIN, 1 << (needed - 1).bit_length())


def _items(listen_addr: str | Iterable[str]) -> list[str]:
    items = listen_addr.split(",") if isinstance(listen_addr, str) else list(listen_addr)
    return [text for item in items if (text := str(item).strip())]


def pgbouncer_database_connections(
    databases: Mapping[str, Mapping[str, Any]], pool_size: Any, reserve_pool_size: Any, auth_connections: Any
) -> int:
    """max_db_connections: the most that one login's pool, its reserve and the queries for verifiers take.

    A pool belongs to a user and a database. While a password changes, the application has two logins, and so two pools. Together
        they get as many as one, since an idle connection of one is closed when the other needs it.
    """

    def largest(default: Any, *keys: str) -> int:
        return max([int(default), *(int(entry[key]) for entry in databases.values() for key in keys if key in entry)])

    pool = largest(pool_size, "pool_size") + largest(reserve_pool_size, "reserve_pool", "reserve_pool_size")
    return pool + int(auth_connections)


def pgbouncer_public_addresses(listen_addr: str | Iterable[str]) -> list[str]:
    """The listen addresses that are neither loopback nor private, which are refused (CVE-2026-107350)."""
    refused = []
    for item in _items(listen_addr):
        try:
            address = ipaddress.ip_address(item)
        except ValueError:
            # A name may resolve to any address later, and * is every address.
            refused.append(item)
            continue
        if address.is_unspecified or not address.is_private:
            refused.append(item)
    return refused


def pgbouncer_distant_addresses(listen_addr: str | Iterable[str]) -> list[str]:
    """The listen addresses that are not loopback, whose clients connect over the network."""
    distant = []
    for item in _items(listen_addr):
        try:
            if not ipaddress.ip_address(item).is_loopback:
                distant.append(item)
        except ValueError:
            distant.append(item)
    return distant


def pgbouncer_client_tls(listen_addr: str | Iterable[str]) -> str:
    """client_tls_sslmode, of which PgBouncer has one for all its addresses."""
    return "verify-ca" if pgbouncer_distant_addresses(listen_addr) else "disable"


def pgbouncer_problems(
    listen_addr: str | Iterable[str], client_tls_sslmode: str = "verify-ca", ignored: Iterable[str] = ()
) -> list[str]:
    """Faults of the role's inputs, as sentences."""
    problems = []
    ignored = list(ignored)
    if ignored and "options" not in ignored:
        problems.append(
            f"pgbouncer_ignore_startup_parameters is {', '.join(ignored)}, without options: a client that sends an option "
            f"without a name would make PgBouncer spin and serve nobody (CVE-2026-107349). Add options, or leave the list empty."
        )
    if (distant := pgbouncer_distant_addresses(listen_addr)) and client_tls_sslmode == "disable":
        problems.append(
            f"pgbouncer_listen_addr names {', '.join(distant)}, but pgbouncer_client_tls_sslmode is disable: queries and results "
            f"would cross the network as plain text. Leave pgbouncer_client_tls_sslmode out, or listen on 127.0.0.1 only."
        )
    if public := pgbouncer_public_addresses(listen_addr):
        problems += [
            f"pgbouncer_listen_addr names {', '.join(public)}: PgBouncer may listen on loopback or on a private address only "
            f"(CVE-2026-107350 lets one user become another). Name the private address."
        ]
    return problems


def pgbouncer_value(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, (list, tuple)):
        value = ", ".join(str(item) for item in value)
    text = str(value)
    if "\n" in text:
        raise AnsibleFilterError(f"a setting's value holds a line break: {text!r}")
    return text


def pgbouncer_settings(own: Mapping[str, Any], parameters: Mapping[str, Any], unknown: Iterable[str] = ()) -> dict[str, str]:
    """The lines of section [pgbouncer]: the role's keys, without those unknown to this release, and the operator's; refuses
    keys set by both."""
    twice = sorted(set(own) & set(parameters))
    if twice:
        raise AnsibleFilterError(
            "pgbouncer_parameters names "
            + ", ".join(twice)
            + ": set "
            + ", ".join("pgbouncer_" + key for key in twice)
            + " instead."
        )
    known = {key: value for key, value in own.items() if key not in set(unknown)}
    # An empty list leaves PgBouncer's default.
    settings = {key: value for key, value in {**known, **parameters}.items() if value != []}
    return {str(key): pgbouncer_value(settings[key]) for key in sorted(settings)}


def pgbouncer_database_lines(
    databases: Mapping[str, Mapping[str, Any]], auth_user: str, sessions: int = 0, queries: int = 0
) -> dict[str, str]:
    """The lines of section [databases]: a connection string for each name; * for every other name.

    sessions: connections of `<name>.session`, each for one client until it ends. queries: those of auth_user besides.

    auth_user is in each of them and not in [pgbouncer]: as a global setting it would also apply to the console's database, where
        an unknown user crashes PgBouncer 1.18 (pgbouncer issue 568, "found existing elem").

    Without a line for *, one that leads nowhere is added: CVE-2026-107350 needs a database that does not exist, and so every name
        resolves. It has no auth_user, so a client with a misspelt database is refused at once.
    """
    lines = {} if "*" in databases else {"*": f"host={NOWHERE}"}
    for name in sorted(databases):
        pairs = {"auth_user": auth_user, **databases[name]}
        lines[str(name)] = _line(pairs)
        if sessions and name != "*":
            own = {"pool_mode": "session", "pool_size": sessions, "max_db_connections": sessions + queries}
            lines[f"{name}.session"] = _line({"dbname": name} | pairs | own)
    return lines


def _line(pairs: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_quoted(pairs[key])}" for key in sorted(pairs))


def _quoted(value: Any) -> str:
    text = pgbouncer_value(value)
    if text and not any(character in text for character in " '\\="):
        return text
    return "'" + text.replace("'", "''") + "'"


# PgBouncer: 12 MiB without clients, 13 with a thousand idle ones; a client in a query holds a buffer of 4 KiB each way.
PGBOUNCER = 16 * MIB
PGBOUNCER_CLIENT = 8 * 1024
# TLS adds this: a thousand clients took 29 MiB with it and 6 without (1.18, OpenSSL 3.0).
PGBOUNCER_TLS_CLIENT = 32 * 1024


def memory_parts(host: Host) -> list[tuple[str, int]] | None:
    """PgBouncer's memory with every client active; None if an input is unknown."""
    most = number(host, "pgbouncer_max_client_conn")
    by_tls = host.inputs.get("pgbouncer_client_tls_sslmode") not in (None, "disable")
    client = PGBOUNCER_CLIENT + by_tls * PGBOUNCER_TLS_CLIENT
    return None if most is None else [(f"PgBouncer with {most} clients", PGBOUNCER + most * client)]


def descriptor_parts(host: Host) -> list[tuple[str, int]] | None:
    """PgBouncer's descriptors with every client and server connection; None if an input is unknown."""
    wanted = numbers(
        host, "pgbouncer_max_client_conn", "pgbouncer_pools", "pgbouncer_default_pool_size", "pgbouncer_reserve_pool_size"
    )
    if wanted is None:
        return None
    clients, pools, size, reserve = wanted
    return [("clients", clients), ("pools", pools * (size + reserve)), ("its own", DESCRIPTOR_MARGIN)]
