"""The kernel's tables of sockets, and the programs that hold them."""

from __future__ import annotations

import ipaddress
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# States by their numbers in /proc/net/*.
ESTABLISHED, UNCONNECTED, LISTEN = "01", "07", "0A"


class Socket(NamedTuple):
    local: tuple[str, int]
    remote: tuple[str, int]
    state: str
    uid: int
    inode: str


def address_of(text: str) -> str:
    """The kernel prints 32-bit words in the machine's byte order, which is little-endian wherever the kit runs."""
    words = [int(text[i : i + 8], 16).to_bytes(4, "little") for i in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def endpoint(text: str) -> tuple[str, int]:
    address, port = text.split(":")
    return address_of(address), int(port, 16)


def rows(path: Path) -> Iterator[Socket]:
    """The sockets of one table; none where the kernel has no such protocol."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for fields in (line.split() for line in lines):
        yield Socket(endpoint(fields[1]), endpoint(fields[2]), fields[3], int(fields[7]), fields[9])


def table(protocol: str, root: Path = Path("/")) -> list[Socket]:
    """The sockets of tcp or udp, by IPv4 and IPv6."""
    return [row for name in (protocol, f"{protocol}6") for row in rows(root / "proc/net" / name)]


def holders(root: Path = Path("/")) -> dict[str, Path]:
    """Inode → the process that holds the socket; of several the oldest, which is the parent."""
    processes: dict[str, Path] = {}
    numbers = sorted(int(path.name) for path in (root / "proc").iterdir() if path.name.isdigit())
    for process in (root / "proc" / str(number) for number in numbers):
        try:
            links = [os.readlink(entry.path) for entry in os.scandir(process / "fd")]
        except OSError:
            continue  # it has ended, or belongs to another account
        for link in links:
            if link.startswith("socket:["):
                processes.setdefault(link[8:-1], process)
    return processes


def program_of(process: Path | None) -> str:
    """The name of the process; empty if it is unknown or has ended."""
    try:
        return (process / "comm").read_text().strip() if process else ""
    except OSError:
        return ""


def user_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
