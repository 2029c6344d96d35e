"""How many more workers fit, and what limits the next one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..fleet.model import Fleet, Host
from .clients import LOOPBACK, database_address
from .connections import connection_lines
from .descriptors import descriptor_lines
from .disks import disk_lines
from .line import Line
from .memory import memory_lines

# Inputs by which two worker hosts need different resources.
KIND = (
    "celery_worker_programs",
    "celery_worker_concurrency",
    "celery_worker_process_memory_bytes",
    "celery_worker_main_memory_bytes",
    "application_celery_settings",
    "application_database_connections",
    "application_database_host",
    "pgbouncer_max_client_conn",
    "pgbouncer_pools",
    "pgbouncer_default_pool_size",
    "pgbouncer_reserve_pool_size",
    "pgbouncer_max_db_connections",
    "pgbouncer_auth_max_user_connections",
    "pgbouncer_databases",
)


@dataclass(frozen=True)
class Room:
    """workers: number of further worker hosts like ``like`` that fit.  stopped_by: the line that the next one would exceed.
    Both are None when nothing in the inventory limits them.  takes: line → what one more worker adds to it."""

    application: str
    like: str
    workers: int | None
    stopped_by: Line | None
    takes: dict[tuple[str, str], int]


def lines(fleet: Fleet) -> list[Line]:
    return [*connection_lines(fleet), *memory_lines(fleet), *descriptor_lines(fleet), *disk_lines(fleet)]


def does_not_fit(fleet: Fleet) -> Iterator[str]:
    return (line.refusal for line in lines(fleet) if line.left < 0)


def with_more(fleet: Fleet, like: Host, count: int) -> Fleet:
    """The fleet with more hosts like this one: same groups and programs, new names and addresses."""
    more = {}
    for index in range(1, count + 1):
        name, address = f"{like.name} + {index}", f"{like.address or like.name} + {index}"
        inputs = {**like.inputs, "celery_worker_beat": False}
        database = database_address(like)
        if str(database) not in LOOPBACK and database in (like.address, like.name):
            inputs["application_database_host"] = address
        more[name] = replace(like, name=name, address=address, machine_id=None, inputs=inputs)
    return replace(fleet, hosts={**fleet.hosts, **more})


def room_for(fleet: Fleet, application: str, like: Host) -> Room:
    """Computed from the growth of each line with one more worker, since each further worker adds the same."""
    now = {line.name: line for line in lines(fleet)}
    grown = lines(with_more(fleet, like, 1))
    takes = {line.name: line.used - now[line.name].used if line.name in now else 0 for line in grown}
    bounds = [
        # Lines of the new host itself: it fits or it does not; they set no count.
        (max(0, now[line.name].left // takes[line.name]), line)
        if line.name in now and takes[line.name] > 0
        else (0 if line.left < 0 else None, line)
        for line in grown
    ]
    limits = [(workers, line) for workers, line in bounds if workers is not None]
    workers, stopped_by = min(limits, key=lambda limit: limit[0], default=(None, None))
    if stopped_by is not None and stopped_by.name in now:
        stopped_by = now[stopped_by.name]
    return Room(application, like.name, workers, stopped_by, {name: more for name, more in takes.items() if more > 0})


def rooms(fleet: Fleet) -> list[Room]:
    """The room for each application; if its worker hosts differ, for the kind of which fewest fit."""
    smallest = []
    for application in fleet.applications:
        kinds: dict[str, Host] = {}
        for host in (worker for worker in fleet.of_application(application, "celery_worker") if not worker.drained):
            kind = repr([sorted(host.roles), sorted(host.measured.items()), *(host.inputs.get(name) for name in KIND)])
            kinds.setdefault(kind, host)
        candidates = [room_for(fleet, application, host) for host in kinds.values()]
        if candidates:
            smallest.append(min(candidates, key=lambda room: float("inf") if room.workers is None else room.workers))
    return smallest
