"""Sizes of a broker, from the memory of its host. Numbers may be text, as --extra-vars gives them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ansible.errors import AnsibleFilterError

from ..fleet.inputs import number
from ..fleet.model import Host
from ..fleet.units import MIB

# The broker's default size of the quorum queues' write-ahead log. It is also in memory, about three times while it is
# written to segments (https://www.rabbitmq.com/docs/quorum-queues#resource-use): a small host uses a 32nd of its memory.
WAL_LARGEST = 512 * MIB
WAL_SMALLEST = 16 * MIB
WAL_SHARE = 32

KEY = re.compile(r"[A-Za-z0-9_.$-]+")

# Keys of rabbitmq.conf that the role sets, including all that begin with the key and a dot, and their input.
NAMED = {
    "listeners": "rabbitmq_listeners_ssl",
    "ssl_options": "rabbitmq_ssl_identity or rabbitmq_ssl_cacertfile",
    "vm_memory_high_watermark": "rabbitmq_vm_memory_high_watermark",
    "disk_free_limit": "rabbitmq_disk_free_limit",
    "raft.wal_max_size_bytes": "rabbitmq_raft_wal_max_size_bytes",
    "consumer_timeout": "rabbitmq_consumer_timeout",
    "heartbeat": "rabbitmq_heartbeat",
    "auth_mechanisms": "",
    "cluster_formation": "rabbitmq_cluster_nodes",
    "cluster_partition_handling": "",
    "queue_leader_locator": "",
    "load_definitions": "",
    "definitions": "",
}


def rabbitmq_share(memory_bytes: int | str, ratio: float | str) -> int:
    """``ratio`` of ``memory_bytes`` in bytes, rounded down.

    >>> rabbitmq_share(2147483648, 0.7)
    1503238553
    """
    # Exact decimal arithmetic: 0.7 of 10 is 7.
    share = int(memory_bytes) * Fraction(str(ratio))
    if share < 0:
        raise ValueError(f"a share cannot be negative: memory {memory_bytes} bytes, ratio {ratio}")
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


def rabbitmq_settings(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The operator's keys of rabbitmq.conf; refuses keys that the role sets.

    >>> rabbitmq_settings({"log.console": True, "channel_max": 512})
    {'channel_max': '512', 'log.console': 'true'}
    """
    for key in sorted(parameters):
        if not KEY.fullmatch(key):
            raise AnsibleFilterError(f"rabbitmq_parameters names {key!r}, which is not a key of rabbitmq.conf. Correct it.")
        for name, source in NAMED.items():
            if key == name or key.startswith(f"{name}."):
                remedy = f"Set {source} instead." if source else "Take it out."
                raise AnsibleFilterError(f"rabbitmq_parameters names {key}, which the role sets itself. {remedy}")
        if isinstance(parameters[key], (dict, list)) or "\n" in str(parameters[key]):
            raise AnsibleFilterError(
                f"rabbitmq_parameters sets {key} to {parameters[key]!r}, but rabbitmq.conf takes one line per key. Name each key "
                "in full, e.g. log.file.level."
            )
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in sorted(parameters.items())}


def watermark_of(broker: Host) -> int | None:
    """The broker's memory watermark in bytes; None if an input is unknown or wrong."""
    memory, ratio = number(broker, "rabbitmq_memory_bytes"), broker.inputs.get("rabbitmq_vm_memory_high_watermark")
    try:
        return None if memory is None or ratio is None else rabbitmq_share(memory, ratio)
    except ValueError:
        return None


def memory_parts(host: Host) -> list[tuple[str, int]] | None:
    """The broker's memory at which it blocks publishers; None if an input is unknown."""
    watermark = watermark_of(host)
    return None if watermark is None else [("RabbitMQ at its watermark", watermark)]


def rabbitmq_in_use(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[str]:
    """The brokers that clients use: those whose place no other broker has taken.

    >>> rabbitmq_in_use(["old", "new"], {"old": {"rabbitmq_successor": "10.0.0.2:5671"}, "new": {}})
    ['new']
    """
    return [host for host in hosts if not hostvars[host].get("rabbitmq_successor")]
