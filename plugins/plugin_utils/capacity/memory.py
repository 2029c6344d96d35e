"""Memory of each host, and of a broker below its watermark. All sizes in bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..fleet.inputs import number, numbers
from ..fleet.model import Fleet, Host
from ..sizing.postgresql import BACKEND_BYTES, MAINTENANCE_USERS, USABLE_SHARE
from ..sizing.rabbitmq import rabbitmq_share
from .clients import broker_connections, clients, web_processes, worker_programs
from .line import BYTES, MIB, Line, mib, parts

# Measured on Debian 12 and 13 by proportional set size (/proc/PID/smaps_rollup) while the demo's videos were transcoded,
# and rounded up: systemd, journald, sshd and logind 14 MiB, the kernel's own 28 to 57 MiB.
SYSTEM = 64 * MIB
SUPERVISORD = 24 * MIB  # 22 MiB
CELERY_MAIN = 64 * MIB  # 30 MiB; a resident set of 61
GUNICORN_MAIN = 24 * MIB  # 12 MiB; a resident set of 24
# PgBouncer: 12 MiB without clients, 13 with a thousand idle ones; a client in a query holds a buffer of 4 KiB each way.
PGBOUNCER = 16 * MIB
PGBOUNCER_CLIENT = 8 * 1024
# What its TLS adds: a thousand clients took 29 MiB with it and 6 without (1.18, OpenSSL 3.0).
PGBOUNCER_TLS_CLIENT = 32 * 1024
# RabbitMQ 4.0 with a dozen queues: 120 MiB at most; 99 KiB for each connection with its channels, and RabbitMQ's own
# page on memory says 100.
RABBITMQ = 120 * MIB
RABBITMQ_CONNECTION = 128 * 1024
# While the write-ahead log is turned into segments (rabbitmq.com, "Quorum Queues", resource use).
WAL_COPIES = 3

UNITS = {"": 1, "B": 1, "kB": 1024, "MB": MIB, "GB": 1024 * MIB, "TB": 1024 * 1024 * MIB}


def postgresql_bytes(size: object, bare: int) -> int | None:
    """A memory setting as PostgreSQL reads it; ``bare`` is the unit of a number without one."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB)?\s*", str(size))
    return int(float(found[1]) * (UNITS[found[2]] if found[2] else bare)) if found else None


def memory_lines(fleet: Fleet) -> Iterator[Line]:
    for host in fleet.hosts.values():
        yield from _host(host)
    for broker in fleet.with_role("rabbitmq"):
        yield from _below_the_watermark(fleet, broker)


def _host(host: Host) -> Iterator[Line]:
    limit = host.measured.get("memory_bytes")
    accounts = (_broker(host), _postgresql(host), _pgbouncer(host), _programs(host))
    if limit is None or None in accounts:
        return
    # The smaller a host, the less its kernel keeps; PostgreSQL's sizes leave the same share.
    system = min(SYSTEM, int(limit * (1 - USABLE_SHARE)))
    used = [("system", system), *(pair for account in accounts for pair in account or [])]
    largest, size = max(used, key=lambda pair: pair[1])
    yield Line(
        host.name,
        "memory",
        limit,
        parts(used),
        f"What runs on {host.name} may take {mib(sum(size for _, size in used))} of memory; the host has {mib(limit)}. "
        f"The largest part is {largest}, {mib(size)}. {_remedy(host)}",
        BYTES,
    )


def _remedy(host: Host) -> str:
    names = {
        "rabbitmq": "rabbitmq_vm_memory_high_watermark",
        "postgresql": "postgresql_max_connections or postgresql_work_mem",
        "celery_worker": "celery_worker_concurrency (celery_worker_process_memory_bytes says what each process takes)",
        "producer": "producer_workers (producer_process_memory_bytes says what each process takes)",
        "pgbouncer": "pgbouncer_max_client_conn",
    }
    if "postgresql" in host.roles and (worker_programs(host) or web_processes(host)):
        # Its sizes grow with the host, so a larger host alone would not end it.
        return "PostgreSQL is not alone there: lower postgresql_memory_bytes, by which it sizes itself."
    lower = next((name for role, name in names.items() if role in host.roles), "what it runs")
    return f"Lower {lower}, or give the host more memory."


def _broker(host: Host) -> list[tuple[str, int]] | None:
    if "rabbitmq" not in host.roles:
        return []
    watermark = watermark_of(host)
    return None if watermark is None else [("RabbitMQ at its watermark", watermark)]


def watermark_of(broker: Host) -> int | None:
    memory, ratio = number(broker, "rabbitmq_memory_bytes"), broker.inputs.get("rabbitmq_vm_memory_high_watermark")
    try:
        return None if memory is None or ratio is None else rabbitmq_share(memory, ratio)
    except ValueError:
        return None


def _postgresql(host: Host) -> list[tuple[str, int]] | None:
    if "postgresql" not in host.roles:
        return []
    connections = number(host, "postgresql_max_connections")
    shared = postgresql_bytes(host.inputs.get("postgresql_shared_buffers"), 8192)
    work = postgresql_bytes(host.inputs.get("postgresql_work_mem"), 1024)
    maintenance = postgresql_bytes(host.inputs.get("postgresql_maintenance_work_mem"), 1024)
    if connections is None or shared is None or work is None or maintenance is None:
        return None
    return [
        ("shared_buffers", shared),
        (f"{connections} connections × (work_mem {mib(work)} + {mib(BACKEND_BYTES)})", connections * (work + BACKEND_BYTES)),
        (f"{MAINTENANCE_USERS} × maintenance_work_mem", MAINTENANCE_USERS * maintenance),
    ]


def _pgbouncer(host: Host) -> list[tuple[str, int]] | None:
    if "pgbouncer" not in host.roles:
        return []
    most = number(host, "pgbouncer_max_client_conn")
    by_tls = host.inputs.get("pgbouncer_client_tls_sslmode") not in (None, "disable")
    client = PGBOUNCER_CLIENT + by_tls * PGBOUNCER_TLS_CLIENT
    return None if most is None else [(f"PgBouncer with {most} clients", PGBOUNCER + most * client)]


def _programs(host: Host) -> list[tuple[str, int]] | None:
    used = [("supervisord", SUPERVISORD)] if "supervisor" in host.roles else []
    if programs := worker_programs(host):
        budget = number(host, "celery_worker_process_memory_bytes")
        if budget is None:
            return None
        processes = sum(program.processes for program in programs)
        mains = len(programs) + (host.inputs.get("celery_worker_beat") is True)
        used.append((f"{processes} worker processes × {mib(budget)}", processes * budget))
        used.append((f"{mains} main processes of Celery", mains * CELERY_MAIN))
    if web := web_processes(host):
        budget = number(host, "producer_process_memory_bytes")
        if budget is None:
            return None
        used.append((f"{web} web processes × {mib(budget)}", web * budget))
        used.append(("their main process", GUNICORN_MAIN))
    return used


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
