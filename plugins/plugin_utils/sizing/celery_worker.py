"""The worker programs of a host: their processes, tasks and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..fleet.inputs import mapping, mappings, number, whole
from ..fleet.model import Host
from ..fleet.units import mib
from .worker_options import worker_options

# Pools of Celery that run their tasks as threads of one process.
THREADED = {"threads", "gevent", "eventlet", "solo"}


@dataclass(frozen=True)
class Program:
    """A worker program: processes that run tasks (its main process not counted), and tasks at once."""

    name: str
    processes: int
    tasks: int


def worker_program(program: dict[str, Any], concurrency: int, pool: str = "prefork") -> Program:
    """The size of a program of celery_worker_programs; its arguments override its concurrency, as in Celery."""
    tasks = whole(program.get("concurrency")) or concurrency
    for key, value in worker_options(program.get("arguments")):
        if key == "--autoscale":
            tasks = whole(value.partition(",")[0]) or tasks
        elif key == "--concurrency":
            tasks = whole(value) or tasks
        elif key == "--pool":
            pool = value
    if pool == "solo":
        tasks = 1
    return Program(str(program.get("name")), 1 if pool in THREADED else tasks, max(0, tasks))


def worker_programs(host: Host) -> list[Program]:
    if "celery_worker" not in host.roles or host.drained:
        return []
    concurrency = max(0, number(host, "celery_worker_concurrency") or 0)
    pool = str(mapping(host, "application_celery_settings").get("worker_pool") or "prefork")
    return [worker_program(program, concurrency, pool) for program in mappings(host, "celery_worker_programs")]


def memory_parts(host: Host) -> list[tuple[str, int]] | None:
    """Memory of the programs in bytes, part by part; None if an input is unknown."""
    programs = worker_programs(host)
    if not programs:
        return []
    budget, main = (number(host, f"celery_worker_{which}_memory_bytes") for which in ("process", "main"))
    if budget is None or main is None:
        return None
    processes = sum(program.processes for program in programs)
    mains = len(programs) + (host.inputs.get("celery_worker_beat") is True)
    return [
        (f"{processes} worker processes × {mib(budget)}", processes * budget),
        (f"{mains} main processes of Celery × {mib(main)}", mains * main),
    ]
