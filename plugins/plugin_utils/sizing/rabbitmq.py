"""Sizes of a broker, from the memory of its host. Numbers may come as text, as they do from --extra-vars."""

from __future__ import annotations

import ipaddress
from fractions import Fraction

MIB = 2**20

# The broker's own size of the quorum queues' write-ahead log. It lives in memory too, some three times over while it is
# being turned into segments (https://www.rabbitmq.com/docs/quorum-queues#resource-use): a small host takes a 32nd of its memory.
WAL_LARGEST = 512 * MIB
WAL_SMALLEST = 16 * MIB
WAL_SHARE = 32


def rabbitmq_share(memory_bytes: int | str, ratio: float | str) -> int:
    """Bytes that ``ratio`` of ``memory_bytes`` is, rounded down.

    >>> rabbitmq_share(2147483648, 0.7)
    1503238553
    """
    # By the decimal number that was written, not by its nearest binary one: 0.7 of 10 is 7.
    share = int(memory_bytes) * Fraction(str(ratio))
    if share < 0:
        raise ValueError(f"a share is of something: memory {memory_bytes} bytes, ratio {ratio}")
    return int(share)


def rabbitmq_wal_max_size_bytes(memory_bytes: int | str) -> int:
    """Bytes at which the write-ahead log of the quorum queues is rolled over.

    >>> rabbitmq_wal_max_size_bytes(2147483648)
    67108864
    """
    return max(WAL_SMALLEST, min(WAL_LARGEST, int(memory_bytes) // WAL_SHARE))


def rabbitmq_erlang_address(address: str) -> str:
    """An address as Erlang writes it.

    >>> rabbitmq_erlang_address("127.0.0.1")
    '{127,0,0,1}'
    """
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4:
        return "{" + ",".join(str(byte) for byte in parsed.packed) + "}"
    groups = (parsed.packed[i : i + 2] for i in range(0, 16, 2))
    return "{" + ",".join(str(int.from_bytes(group, "big")) for group in groups) + "}"
