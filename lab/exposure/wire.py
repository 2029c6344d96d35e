"""What could be read by recording the network: pure functions over the bytes of a capture."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lab.vault import forms

# Address and port.
End = tuple[str, int]


@dataclass
class Stream:
    """One direction of one connection, reassembled."""

    source: End
    destination: End
    packets: int = 0
    segments: dict[int, bytes] = field(default_factory=dict)

    def content(self) -> bytes:
        """What was sent, in order and once, without what the recorder missed."""
        parts, reached = [], None
        for number, segment in sorted(self.segments.items()):
            new = segment if reached is None or number >= reached else segment[reached - number :]
            if new:
                parts.append(new)
                reached = number + len(segment)
        return b"".join(parts)


def packets(pcap: bytes) -> Iterator[bytes]:
    """The frames of a file that tcpdump wrote."""
    magic = pcap[:4]
    orders = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\x3c\x4d": ">"}
    if magic not in orders:
        raise ValueError("not a file of tcpdump")
    order, place = orders[magic], 24
    if struct.unpack(f"{order}I", pcap[20:24])[0] & 0xFFFF != 1:
        raise ValueError("not a recording of an Ethernet")
    while place + 16 <= len(pcap):
        (length,) = struct.unpack(f"{order}I", pcap[place + 8 : place + 12])
        yield pcap[place + 16 : place + 16 + length]
        place += 16 + length


def datagram(frame: bytes) -> tuple[str, str, int, bytes] | None:
    """Source, destination, protocol number and content of the IP packet in a frame; None without one."""
    kind, rest = frame[12:14], frame[14:]
    if kind == b"\x08\x00" and len(rest) >= 20:
        header, total = (rest[0] & 15) * 4, int.from_bytes(rest[2:4])
        return str(ipaddress.ip_address(rest[12:16])), str(ipaddress.ip_address(rest[16:20])), rest[9], rest[header:total]
    if kind == b"\x86\xdd" and len(rest) >= 40:
        total = 40 + int.from_bytes(rest[4:6])
        return str(ipaddress.ip_address(rest[8:24])), str(ipaddress.ip_address(rest[24:40])), rest[6], rest[40:total]
    return None


TCP = 6


def streams(pcap: bytes) -> list[Stream]:
    """The directions of all TCP connections; sequence numbers count from the first of each."""
    current: dict[tuple[End, End], Stream] = {}
    first: dict[tuple[End, End], int] = {}
    done: list[Stream] = []
    for frame in packets(pcap):
        inner = datagram(frame)
        if inner is None or inner[2] != TCP or len(inner[3]) < 20:
            continue
        source, destination, _, segment = inner
        ports = struct.unpack(">HH", segment[:4])
        ends = ((source, ports[0]), (destination, ports[1]))
        number, starts = int.from_bytes(segment[4:8]), bool(segment[13] & 2)
        if starts and ends in current and current[ends].segments:
            done.append(current.pop(ends))  # another connection between the same ports
        stream = current.setdefault(ends, Stream(*ends))
        if starts or ends not in first or not stream.packets:
            first[ends] = (number + starts) % 2**32
        stream.packets += 1
        if content := segment[(segment[12] >> 4) * 4 :]:
            # Numbers wrap around: a segment from before the first one seen gets a negative place.
            place = (number + starts - first[ends] + 2**31) % 2**32 - 2**31
            if len(content) > len(stream.segments.get(place, b"")):
                stream.segments[place] = content
    return [*done, *current.values()]


def readable(haystacks: Iterable[bytes], secrets: Mapping[str, str]) -> dict[str, list[str]]:
    """{name of a secret: the forms in which it can be read}, without its value."""
    texts = list(haystacks)
    leaks = {}
    for name, secret in secrets.items():
        if legible := [form for form, needle in forms(secret).items() if any(needle in text for text in texts)]:
            leaks[name] = legible
    return leaks


HEADER = 5
LARGEST_RECORD = 16384 + 2048


def record(content: bytes, place: int) -> int | None:
    """The length of the TLS record that begins here, with its header; None without one."""
    head = content[place : place + HEADER]
    if len(head) < HEADER or not 20 <= head[0] <= 24 or head[1] != 3 or head[2] > 4:
        return None
    length = int.from_bytes(head[3:5])
    return HEADER + length if 0 < length <= LARGEST_RECORD else None


def in_records(content: bytes) -> int:
    """How many bytes of a stream are in TLS records.

    The stream may begin inside a record, or with a request for TLS, as PostgreSQL's does. Records count from the first of three
    in a row, or of a row that reaches the end.
    """
    for start in range(min(len(content), LARGEST_RECORD + 64)):
        place, chained = start, 0
        while (length := record(content, place)) is not None and place < len(content):
            place += length
            chained += 1
        if chained >= 3 or (chained and place >= len(content)):
            return min(place, len(content)) - start
    return 0


@dataclass
class Port:
    packets: int = 0
    payload: int = 0
    tls: int = 0


def by_port(streams: Iterable[Stream], ports: Iterable[int]) -> dict[int, Port]:
    """Traffic by the service's port: of a stream's two ports the declared one, or else the lower one."""
    known, counts = set(ports), {}
    for stream in streams:
        pair = (stream.source[1], stream.destination[1])
        service = next((port for port in reversed(pair) if port in known), min(pair))
        count, content = counts.setdefault(service, Port()), stream.content()
        count.packets += stream.packets
        count.payload += len(content)
        count.tls += in_records(content)
    return counts
