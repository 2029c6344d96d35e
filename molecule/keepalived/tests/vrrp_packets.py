"""VRRP on a host of the scenario.

vrrp_packets.py hear SECONDS             prints the sources of the adverts that pass the firewall
vrrp_packets.py claim ADDRESS ID TARGET  tells the target ten times that this host owns the virtual address
"""

from __future__ import annotations

import socket
import struct
import sys
import time

VRRP = 112
OWNER = 255


def hear(seconds: float) -> set[str]:
    sources = set()
    end = time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, VRRP) as raw:
        raw.settimeout(0.2)
        while time.monotonic() < end:
            try:
                sources.add(raw.recvfrom(2048)[1][0])
            except TimeoutError:
                continue
    return sources


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def claim(address: str, identity: int, target: str) -> None:
    """RFC 5798: version 3, type 1; the checksum includes a pseudo header."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, VRRP) as raw:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        raw.connect((target, 0))
        ends = socket.inet_aton(raw.getsockname()[0]) + socket.inet_aton(target)
        head, tail = struct.pack("!BBBBH", 0x31, identity, OWNER, 1, 100), socket.inet_aton(address)
        pseudo = ends + struct.pack("!BBH", 0, VRRP, len(head) + 2 + len(tail))
        for _ in range(10):
            raw.send(head + struct.pack("!H", checksum(pseudo + head + b"\0\0" + tail)) + tail)


match sys.argv[1:]:
    case ["hear", seconds]:
        print(*sorted(hear(float(seconds))))
    case ["claim", address, identity, target]:
        claim(address, int(identity), target)
