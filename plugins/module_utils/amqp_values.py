"""The values of AMQP 0-9-1 on the wire."""

from __future__ import annotations

import struct
from typing import Any

# Field types with a fixed size in bytes, and struct's format of the numeric ones.
FIXED = {"t": 1, "b": 1, "B": 1, "s": 2, "u": 2, "I": 4, "i": 4, "l": 8, "L": 8, "f": 4, "d": 8, "T": 8, "V": 0, "D": 5}
NUMBERS = {kind: f">{code}" for kind, code in zip("bBsuIilLfdT", "bBhHiIqqfdQ", strict=True)}


class AmqpError(Exception):
    """The broker closed the connection or the channel, or blocks publishers; the message is its reason."""


def short(text: str) -> bytes:
    raw = text.encode()
    return bytes([len(raw)]) + raw


def long(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def value_size(raw: bytes, at: int) -> int:
    """Size of the field value at ``at``, with its type's letter."""
    kind = chr(raw[at])
    if kind in FIXED:
        return 1 + FIXED[kind]
    if kind in "SxFA":
        return 5 + int(struct.unpack_from(">I", raw, at + 1)[0])
    raise AmqpError(f"a header holds a value of the type {kind!r}, which AMQP 0-9-1 does not define")


def fields(raw: bytes) -> dict[str, bytes]:
    """The fields of a table without its length: name to the bytes of the value, with its type's letter."""
    values, at = {}, 0
    while at < len(raw):
        name = raw[at + 1 : at + 1 + raw[at]].decode()
        at += 1 + raw[at]
        size = value_size(raw, at)
        values[name] = raw[at : at + size]
        at += size
    return values


def value(raw: bytes) -> Any:
    """A field's value in Python."""
    kind, rest = chr(raw[0]), raw[1:]
    match kind:
        case "t":
            return rest[0] != 0
        case "V":
            return None
        case "S":
            return rest[4:].decode(errors="replace")
        case "x":
            return rest[4:]
        case "F":
            return {name: value(inner) for name, inner in fields(rest[4:]).items()}
        case "A":
            items, at = [], 4
            while at < len(rest):
                size = value_size(rest, at)
                items.append(value(rest[at : at + size]))
                at += size
            return items
        case "D":
            scale, digits = struct.unpack(">BI", rest)
            return digits / 10**scale
    return struct.unpack(NUMBERS[kind], rest)[0]


def table(values: dict[str, bytes]) -> bytes:
    """Fields as a table, its length first."""
    return long(b"".join(short(name) + raw for name, raw in values.items()))


def text(words: str) -> bytes:
    """A string as a field's value."""
    return b"S" + long(words.encode())
