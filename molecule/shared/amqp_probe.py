"""A minimal AMQP 0-9-1 client. It runs on the control machine, so no password appears in a command line on the broker's host."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

FRAME_END = b"\xce"


class Refused(Exception):
    """The broker closed the connection or the channel, for this reason."""


def short(text: str) -> bytes:
    raw = text.encode()
    return bytes([len(raw)]) + raw


def long(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def table(values: dict[str, Any]) -> bytes:
    out = b""
    for key, value in values.items():
        out += short(key)
        match value:
            case bool():
                out += b"t" + bytes([value])
            case str():
                out += b"S" + long(value.encode())
            case int():
                out += b"I" + struct.pack(">i", value)
            case dict():
                out += b"F" + table(value)
    return long(out)


class Connection:
    def __init__(
        self,
        address: str,
        port: int,
        user: str,
        password: str,
        vhost: str,
        tls: ssl.SSLContext | None,
        timeout: float = 20,
        dial: Callable[..., socket.socket] = socket.create_connection,
    ) -> None:
        self.socket = dial((address, port), timeout=timeout)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=address)
        self.stream = self.socket.makefile("rb")
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.expect(10, 10)
        response = b"\0" + user.encode() + b"\0" + password.encode()
        # Without this capability a refused client only sees the connection break.
        properties = table({"capabilities": {"authentication_failure_close": True}})
        self.send(0, 10, 11, properties + short("PLAIN") + long(response) + short("en_US"))
        tune = self.expect(10, 30)
        self.heartbeat = struct.unpack(">H", tune[6:8])[0]
        self.send(0, 10, 31, struct.pack(">HIH", 1, 131072, 0))
        self.send(0, 10, 40, short(vhost) + short("") + b"\0")
        self.expect(10, 41)
        self.send(1, 20, 10, short(""))
        self.expect(20, 11)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, channel: int, klass: int, method: int, arguments: bytes) -> None:
        self.frame(1, channel, struct.pack(">HH", klass, method) + arguments)

    def frame(self, kind: int, channel: int, payload: bytes) -> None:
        self.socket.sendall(struct.pack(">BHI", kind, channel, len(payload)) + payload + FRAME_END)

    def read(self) -> tuple[int, bytes]:
        head = self.stream.read(7)
        if len(head) < 7:
            raise Refused("the broker hung up")
        kind, _, size = struct.unpack(">BHI", head)
        return kind, self.stream.read(size + 1)[:-1]

    def expect(self, klass: int, *methods: int) -> bytes:
        """The arguments of the next method, with the method's number first if several are expected."""
        while True:
            kind, payload = self.read()
            if kind == 8:
                continue
            frame_class, method = struct.unpack(">HH", payload[:4])
            if (frame_class, method) in ((10, 50), (20, 40)):
                code, size = struct.unpack(">HB", payload[4:7])
                raise Refused(f"{code} {payload[7 : 7 + size].decode()}")
            if frame_class == klass and method in methods:
                return payload[4:] if len(methods) == 1 else payload[2:]

    def declare(self, queue: str, **arguments: Any) -> None:
        self.send(1, 50, 10, b"\0\0" + short(queue) + bytes([2]) + table(arguments))
        self.expect(50, 11)

    def delete(self, queue: str) -> None:
        self.send(1, 50, 40, b"\0\0" + short(queue) + b"\0")
        self.expect(50, 41)

    def publish(self, queue: str, body: str) -> str:
        """Publish to a queue, persistent, and wait for the confirm: 'ack' or 'nack'."""
        self.send(1, 85, 10, b"\0")
        self.expect(85, 11)
        self.send(1, 60, 40, b"\0\0" + short("") + short(queue) + b"\0")
        self.frame(2, 1, struct.pack(">HHQHB", 60, 0, len(body), 1 << 12, 2))
        self.frame(3, 1, body.encode())
        answer = self.expect(60, 80, 120)
        return "ack" if struct.unpack(">H", answer[:2])[0] == 80 else "nack"

    def get(self, queue: str) -> tuple[int, str] | None:
        """Delivery tag and body of one message."""
        self.send(1, 60, 70, b"\0\0" + short(queue) + b"\0")
        answer = self.expect(60, 71, 72)
        if struct.unpack(">H", answer[:2])[0] == 72:
            return None
        return struct.unpack(">Q", answer[2:10])[0], self.body()

    def body(self) -> str:
        """Of the message whose delivery was just read."""
        _, header = self.read()
        size, body = struct.unpack(">Q", header[4:12])[0], b""
        while len(body) < size:
            body += self.read()[1]
        return body.decode()

    def consume(self, queue: str) -> Iterator[str]:
        """Bodies as they come, without an acknowledgement: a quorum queue answers some twenty calls of `get` a second."""
        self.send(1, 60, 20, b"\0\0" + short(queue) + short("") + bytes([2]) + table({}))
        self.expect(60, 21)
        while True:
            self.expect(60, 60)
            yield self.body()

    def ack(self, tag: int) -> None:
        self.send(1, 60, 80, struct.pack(">QB", tag, 0))

    def reject(self, tag: int) -> None:
        """As a worker does with a job that failed: it is not to be delivered again."""
        self.send(1, 60, 90, struct.pack(">QB", tag, 0))

    def put_back(self, tag: int) -> None:
        self.send(1, 60, 90, struct.pack(">QB", tag, 1))
