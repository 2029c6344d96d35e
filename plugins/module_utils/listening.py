"""Whether a server listens where it was configured to: one that boots before its address is there may run on without it."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from . import sockets

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def listening(port: int, tables: tuple[str, ...] = TABLES) -> set[str]:
    """The addresses on which something listens at this port."""
    found = [row for table in tables for row in sockets.rows(Path(table)) if row.state == sockets.LISTEN]
    return {row.local[0] for row in found if row.local[1] == port}


def deaf_addresses(listen_addresses: str, port: int, tables: tuple[str, ...] = TABLES) -> list[str]:
    """Those of PostgreSQL's listen_addresses that this host has and nothing listens on."""
    heard = listening(port, tables)
    deaf = []
    for item in filter(None, (part.strip() for part in listen_addresses.split(","))):
        wanted = {"*": {"0.0.0.0", "::"}, "localhost": {"127.0.0.1", "::1"}}.get(item, {spelling(item)})
        any_of_its_kind = {"::"} | ({"0.0.0.0"} if ":" not in item else set())
        if not heard & (wanted | any_of_its_kind) and has(item):
            deaf.append(item)
    return deaf


def spelling(item: str) -> str:
    """The item as the kernel's tables are read: IPv6 has many spellings."""
    try:
        return str(ipaddress.ip_address(item))
    except ValueError:
        return item


def has(item: str) -> bool:
    """Whether the host has the address now: a restart of the server mends nothing else."""
    try:
        address = ipaddress.ip_address(item)
    except ValueError:
        return True
    with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET) as trial:
        try:
            trial.bind((item, 0))
        except OSError:
            return False
    return True
