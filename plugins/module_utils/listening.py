"""Whether a server listens on its configured addresses: one that starts before the host has an address runs without it."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from . import sockets

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def listening(port: int, tables: tuple[str, ...] = TABLES) -> set[str]:
    """The addresses with a listening socket at this port."""
    listeners = [row for table in tables for row in sockets.rows(Path(table)) if row.state == sockets.LISTEN]
    return {row.local[0] for row in listeners if row.local[1] == port}


def deaf_addresses(listen_addresses: str, port: int, tables: tuple[str, ...] = TABLES) -> list[str]:
    """PostgreSQL's listen_addresses that this host has and on which nothing listens."""
    listeners = listening(port, tables)
    deaf = []
    for item in filter(None, (part.strip() for part in listen_addresses.split(","))):
        wanted = {"*": {"0.0.0.0", "::"}, "localhost": {"127.0.0.1", "::1"}}.get(item, {spelling(item)})
        any_of_its_kind = {"::"} | ({"0.0.0.0"} if ":" not in item else set())
        if not listeners & (wanted | any_of_its_kind) and has(item):
            deaf.append(item)
    return deaf


def spelling(item: str) -> str:
    """The address in canonical spelling, as in the kernel's tables."""
    try:
        return str(ipaddress.ip_address(item))
    except ValueError:
        return item


def has(item: str) -> bool:
    """Whether the host has the address now; without it a restart of the server would not help."""
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
