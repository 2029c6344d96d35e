"""Whether a server listens where it was configured to: one that boots before its address is there may run on without it."""

from __future__ import annotations

import ipaddress
import socket

LISTEN = "0A"
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def listening(port: int, tables: tuple[str, ...] = TABLES) -> set[str]:
    """The addresses on which something listens at this port."""
    addresses = set()
    for table in tables:
        try:
            with open(table, encoding="ascii") as lines:
                rows = [line.split() for line in lines][1:]
        except FileNotFoundError:  # no IPv6
            continue
        for local, state in ((row[1], row[3]) for row in rows):
            address, number = local.split(":")
            if state == LISTEN and int(number, 16) == port:
                addresses.add(address_of(address))
    return addresses


def address_of(text: str) -> str:
    """The kernel prints words of 32 bits, each in the machine's own order: little-endian wherever the kit runs."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def deaf_addresses(listen_addresses: str, port: int, tables: tuple[str, ...] = TABLES) -> list[str]:
    """Those of PostgreSQL's listen_addresses that this host has and nothing listens on."""
    heard = listening(port, tables)
    deaf = []
    for item in filter(None, (part.strip() for part in listen_addresses.split(","))):
        wanted = {"*": {"0.0.0.0", "::"}, "localhost": {"127.0.0.1", "::1"}}.get(item, {item})
        any_of_its_kind = {"::"} | ({"0.0.0.0"} if ":" not in item else set())
        if not heard & (wanted | any_of_its_kind) and has(item):
            deaf.append(item)
    return deaf


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
