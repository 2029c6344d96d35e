"""Memory of each host, and of a broker below its watermark. All sizes in bytes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

from ..fleet.inputs import numbers
from ..fleet.model import Fleet, Host
from ..fleet.services import Service, services
from ..fleet.units import MIB, mib
from ..sizing.celery_worker import worker_programs
from ..sizing.postgresql import USABLE_SHARE
from ..sizing.producer import web_processes
from ..sizing.rabbitmq import watermark_of
from .clients import broker_connections, clients
from .line import BYTES, Line, parts

# Measured on Debian 12 and 13 by proportional set size (/proc/PID/smaps_rollup) while the demo's videos were transcoded,
# and rounded up: systemd, journald, sshd and logind 14 MiB, the kernel's own 28 to 57 MiB.
SYSTEM = 64 * MIB
# RabbitMQ 4.0 with a dozen queues: 120 MiB at most; 99 KiB for each connection with its channels, and RabbitMQ's own
# page on memory says 100.
RABBITMQ = 120 * MIB
RABBITMQ_CONNECTION = 128 * 1024
# While the write-ahead log is turned into segments (rabbitmq.com, "Quorum Queues", resource use).
WAL_COPIES = 3


def memory_lines(fleet: Fleet) -> Iterator[Line]:
    for host in fleet.hosts.values():
        yield from _host(host)
    for broker in fleet.with_role("rabbitmq"):
        yield from _below_the_watermark(fleet, broker)


def _host(host: Host) -> Iterator[Line]:
    limit = host.measured.get("memory_bytes")
    sized = [service for service in services().values() if service.memory and service.role in host.roles]
    accounts = {service.memory: sizing(service).memory_parts(host) for service in sized}
    if limit is None or None in accounts.values():
        return
    # The smaller a host, the less its kernel keeps; PostgreSQL's sizes leave the same share.
    system = min(SYSTEM, int(limit * (1 - USABLE_SHARE)))
    used = [("system", system), *(pair for account in accounts.values() for pair in account or [])]
    largest, size = max(used, key=lambda pair: pair[1])
    lower = max(accounts, key=lambda memory: max((part for _, part in accounts[memory] or []), default=0), default="what it runs")
    yield Line(
        host.name,
        "memory",
        limit,
        parts(used),
        f"What runs on {host.name} may take {mib(sum(size for _, size in used))} of memory; the host has {mib(limit)}. "
        f"The largest part is {largest}, {mib(size)}. {_remedy(host, lower)}",
        BYTES,
    )


def sizing(service: Service) -> ModuleType:
    """The module of the service's arithmetic, sizing/<role>.py."""
    return importlib.import_module(f"..sizing.{service.role}", __package__)


def _remedy(host: Host, lower: str) -> str:
    """lower: the input of the service with the largest part."""
    if "postgresql" in host.roles and (worker_programs(host) or web_processes(host)):
        # Its sizes grow with the host, so a larger host alone would not end it.
        return "PostgreSQL is not alone there: lower postgresql_memory_bytes, by which it sizes itself."
    return f"Lower {lower}, or give the host more memory."


def _below_the_watermark(fleet: Fleet, broker: Host) -> Iterator[Line]:
    limit, log = watermark_of(broker), numbers(broker, "rabbitmq_raft_wal_max_size_bytes")
    if limit is None or log is None:
        return
    connections = sum(broker_connections(client) for client in clients(fleet))
    used = parts(
        [
            ("the broker itself", RABBITMQ),
            (f"{WAL_COPIES} × the write-ahead log of quorum queues", WAL_COPIES * log[0]),
            (f"{connections} connections × {RABBITMQ_CONNECTION // 1024} KiB", connections * RABBITMQ_CONNECTION),
        ]
    )
    yield Line(
        broker.name,
        "memory below the watermark",
        limit,
        used,
        f"{broker.name} may take {mib(sum(part.used for part in used))} of memory without a single message, and holds publishers "
        f"back at {mib(limit)} (rabbitmq_vm_memory_high_watermark). Give the host more memory, or lower "
        f"rabbitmq_raft_wal_max_size_bytes.",
        BYTES,
    )
