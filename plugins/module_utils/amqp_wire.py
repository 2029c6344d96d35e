"""The part of AMQP 0-9-1 that moving a message needs, in plain Python, since a broker's host has no AMQP library.

A message keeps the exact bytes of its body and headers: a library would decode and encode headers again, and lose the types of
their values on the wire (there are seventeen).
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from .amqp_values import AmqpError, fields, long, short, table, text, value

FRAME_END = b"\xce"
METHOD, HEADER, BODY = 1, 2, 3
FRAME_MAX = 131072

# The properties of a message and their types, in the order of their flags from the highest bit down.
PROPERTIES = (
    ("content_type", "short"),
    ("content_encoding", "short"),
    ("headers", "table"),
    ("delivery_mode", "octet"),
    ("priority", "octet"),
    ("correlation_id", "short"),
    ("reply_to", "short"),
    ("expiration", "short"),
    ("message_id", "short"),
    ("timestamp", "longlong"),
    ("type", "short"),
    ("user_id", "short"),
    ("app_id", "short"),
    ("cluster_id", "short"),
)
PERSISTENT = b"\x02"


class Undelivered(AmqpError):
    """The broker refused this message; the connection stays open."""


@dataclass
class Message:
    """A message with its original bytes."""

    body: bytes = b""
    properties: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, bytes] = field(default_factory=dict)
    tag: int = 0
    # Of a delivery: its consumer, and the routing key with which it was published.
    consumer: str = ""
    routing_key: str = ""

    def header(self, name: str) -> Any:
        return value(self.headers[name]) if name in self.headers else None


def packed_properties(message: Message) -> bytes:
    """Flags and properties as bytes of a content header."""
    flags, out = 0, b""
    for position, (name, _) in enumerate(PROPERTIES):
        raw = table(message.headers) if name == "headers" and message.headers else message.properties.get(name)
        if raw is not None:
            flags |= 1 << (15 - position)
            out += raw
    return struct.pack(">H", flags) + out


def unpacked_properties(raw: bytes) -> Message:
    """The message of a content header, without its body."""
    message, at = Message(), 2
    (flags,) = struct.unpack_from(">H", raw)
    for position, (name, kind) in enumerate(PROPERTIES):
        if not flags & 1 << (15 - position):
            continue
        match kind:
            case "short":
                size = 1 + raw[at]
            case "table":
                size = 4 + struct.unpack_from(">I", raw, at)[0]
            case "octet":
                size = 1
            case _:
                size = 8
        piece = raw[at : at + size]
        at += size
        if kind == "table":
            message.headers = fields(piece[4:])
        else:
            message.properties[name] = piece
    return message


class Connection:
    """One connection with one channel in confirm mode."""

    def __init__(
        self,
        address: str,
        port: int,
        user: str,
        password: str,
        vhost: str,
        timeout: float = 20,
        tls: ssl.SSLContext | None = None,
        name: str = "",
        told_of_alarms: bool = True,
    ) -> None:
        self.socket = socket.create_connection((address, port), timeout=timeout)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=address)
        self.buffer = bytearray()
        self.deliveries: deque[Message] = deque()
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.expect(10, 10)
        # Without this capability the broker closes a refused connection without a reason.
        told = b"t\x01" if told_of_alarms else b"t\x00"
        capable = b"F" + table({"authentication_failure_close": b"t\x01", "connection.blocked": told})
        properties = table({"capabilities": capable, "connection_name": text(name)})
        response = b"\0" + user.encode() + b"\0" + password.encode()
        self.send(0, 10, 11, properties + short("PLAIN") + long(response) + short("en_US"))
        self.expect(10, 30)
        # No heartbeat: this client is never idle, and waits with a timeout.
        self.send(0, 10, 31, struct.pack(">HIH", 1, FRAME_MAX, 0))
        self.send(0, 10, 40, short(vhost) + short("") + b"\0")
        self.expect(10, 41)
        self.open_channel()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def open_channel(self) -> None:
        self.published = 0
        self.send(1, 20, 10, short(""))
        self.expect(20, 11)
        self.send(1, 85, 10, b"\0")
        self.expect(85, 11)

    def send(self, channel: int, klass: int, method: int, arguments: bytes) -> None:
        self.frame(METHOD, channel, struct.pack(">HH", klass, method) + arguments)

    def frame(self, kind: int, channel: int, payload: bytes) -> None:
        self.socket.sendall(struct.pack(">BHI", kind, channel, len(payload)) + payload + FRAME_END)

    def read(self) -> tuple[int, bytes]:
        kind, _, size = struct.unpack(">BHI", self.take(7))
        return kind, self.take(size + 1)[:-1]

    def take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            piece = self.socket.recv(FRAME_MAX)
            if not piece:
                raise AmqpError("the broker closed the connection")
            self.buffer += piece
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def pending(self, seconds: float) -> bool:
        """Whether the broker sends something within the time, or has sent what was not read yet."""
        decrypted = isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()
        return bool(self.deliveries or self.buffer or decrypted or select.select([self.socket], [], [], seconds)[0])

    def expect(self, klass: int, *methods: int) -> tuple[int, bytes]:
        """Number and arguments of the next of these methods. A delivery that arrives before it is kept."""
        while True:
            kind, payload = self.read()
            if kind != METHOD:  # a heartbeat
                continue
            method = struct.unpack(">HH", payload[:4])
            if method in ((10, 50), (20, 40)):
                code, size = struct.unpack(">HB", payload[4:7])
                raise AmqpError(f"{code} {payload[7 : 7 + size].decode()}")
            if method == (10, 60):
                raise AmqpError("the broker accepts no message while it has an alarm")
            if method[0] == klass and method[1] in methods:
                return method[1], payload[4:]
            if method == (60, 60):
                self.deliveries.append(self.delivery(payload[4:]))

    def content(self) -> Message:
        """The message whose method was just read."""
        _, head = self.read()
        (size,) = struct.unpack_from(">Q", head, 4)
        message = unpacked_properties(head[12:])
        while len(message.body) < size:
            message.body += self.read()[1]
        return message

    def get(self, queue: str) -> Message | None:
        """The queue's next message, held by this connection until it is acknowledged or the connection ends."""
        self.send(1, 60, 70, b"\0\0" + short(queue) + b"\0")
        method, arguments = self.expect(60, 71, 72)
        if method == 72:
            return None
        (tag,) = struct.unpack_from(">Q", arguments)
        message = self.content()
        message.tag = tag
        return message

    def publish(self, exchange: str, routing_key: str, *messages: Message) -> None:
        """Returns once the broker has each message in at least one queue; raises Undelivered otherwise."""
        self.publish_all([(exchange, routing_key, message) for message in messages])

    def publish_all(self, addressed: list[tuple[str, str, Message]]) -> None:
        """The same for messages with an exchange and a routing key each."""
        for exchange, routing_key, message in addressed:
            # Bit 0: mandatory, so a message that reaches no queue is returned.
            self.send(1, 60, 40, b"\0\0" + short(exchange) + short(routing_key) + b"\1")
            self.frame(HEADER, 1, struct.pack(">HHQ", 60, 0, len(message.body)) + packed_properties(message))
            for at in range(0, len(message.body), FRAME_MAX - 8):
                self.frame(BODY, 1, message.body[at : at + FRAME_MAX - 8])
        waiting = set(range(self.published + 1, self.published + len(addressed) + 1))
        self.published += len(addressed)
        returned = ""
        while waiting:
            method, arguments = self.expect(60, 50, 80, 120)
            if method == 50:
                returned = arguments[3 : 3 + arguments[2]].decode()
                self.content()
                continue
            tag, several = struct.unpack_from(">QB", arguments)
            confirmed = {number for number in waiting if number == tag or (several & 1 and number <= tag)}
            waiting -= confirmed
            if method == 120 and confirmed:
                raise Undelivered("the queue refused it")
        if returned:
            raise Undelivered(f"no queue accepted it: {returned}")

    def has(self, queue: str) -> bool:
        """Whether the queue exists."""
        self.send(1, 50, 10, b"\0\0" + short(queue) + b"\1" + table({}))  # bit 0: passive
        try:
            self.expect(50, 11)
        except AmqpError as error:
            if not str(error).startswith("404 "):
                raise
            # The broker has closed the channel.
            self.send(1, 20, 41, b"")
            self.open_channel()
            return False
        return True

    def consume(self, queue: str, prefetch: int, consumer: str = "") -> None:
        """Lets the broker send the queue's messages, at most ``prefetch`` of them before they are acknowledged.

        consumer: its name, which the broker chooses if it is empty.
        """
        self.send(1, 60, 10, struct.pack(">IHB", 0, prefetch, 0))
        self.expect(60, 11)
        self.send(1, 60, 20, b"\0\0" + short(queue) + short(consumer) + b"\0" + table({}))
        self.expect(60, 21)

    def delivered(self) -> Message:
        """The next message of the consumed queues."""
        return self.deliveries.popleft() if self.deliveries else self.delivery(self.expect(60, 60)[1])

    def delivery(self, arguments: bytes) -> Message:
        """The message of a delivery whose method was just read."""
        key = 10 + arguments[0]  # after the consumer, the tag and whether it is a redelivery: the exchange, then the routing key
        key += 1 + arguments[key]
        (tag,) = struct.unpack_from(">Q", arguments, 1 + arguments[0])
        message = self.content()
        message.tag, message.consumer = tag, arguments[1 : 1 + arguments[0]].decode()
        message.routing_key = arguments[key + 1 : key + 1 + arguments[key]].decode()
        return message

    def ack(self, tag: int, up_to: bool = False) -> None:
        """Acknowledges a message, or all up to it."""
        self.send(1, 60, 80, struct.pack(">QB", tag, up_to))

    def finish(self) -> None:
        """Closes the connection; the broker has then processed every acknowledgement, and requeued the other messages."""
        self.send(1, 20, 40, struct.pack(">H", 200) + short("") + b"\0\0\0\0")
        self.expect(20, 41)
        self.send(0, 10, 50, struct.pack(">H", 200) + short("") + b"\0\0\0\0")
        self.expect(10, 51)
