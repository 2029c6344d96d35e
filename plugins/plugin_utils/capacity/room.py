"""How many more workers fit, and what stops the next one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..fleet.model import Fleet, Host
from .clients import LOOPBACK, database_place
from .connections import connection_lines
from .descriptors import descriptor_lines
from .line import Line
from .memory import memory_lines

# What makes two worker hosts ask for different things.
KIND = (
    "celery_worker_programs",
    "celery_worker_concurrency",
    "celery_worker_process_memory_bytes",
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
    """workers: more worker hosts like ``like`` that fit.  stopped_by: the line that the next one would exceed, with
    what it takes of it.  Both None when nothing in the inventory bounds them.  takes: of each line that grows."""

    application: str
    like: str
    workers: int | None
    stopped_by: Line | None
    takes: dict[tuple[str, str], int]


def lines(fleet: Fleet) -> list[Line]:
    return [*connection_lines(fleet), *memory_lines(fleet), *descriptor_lines(fleet)]


def does_not_fit(fleet: Fleet) -> Iterator[str]:
    return (line.refusal for line in lines(fleet) if line.left < 0)


def with_more(fleet: Fleet, like: Host, count: int) -> Fleet:
    """The fleet with more hosts like this one: same groups, same programs, an address and a name of their own."""
    more = {}
    for index in range(1, count + 1):
        name, address = f"{like.name} + {index}", f"{like.address or like.name} + {index}"
        inputs = {**like.inputs, "celery_worker_beat": False}
        place = database_place(like)
        if str(place) not in LOOPBACK and place in (like.address, like.name):
            inputs["application_database_host"] = address
        more[name] = replace(like, name=name, address=address, machine_id=None, inputs=inputs)
    return replace(fleet, hosts={**fleet.hosts, **more})


def room_for(fleet: Fleet, application: str, like: Host) -> Room:
    """By the difference that one more makes to each line: every line grows by the same with each worker of a kind."""
    now = {line.name: line for line in lines(fleet)}
    grown = lines(with_more(fleet, like, 1))
    takes = {line.name: line.used - now[line.name].used if line.name in now else 0 for line in grown}
    bounds = [
        # What the new host has for itself either carries it or does not.
        (max(0, now[line.name].left // takes[line.name]), line)
        if line.name in now and takes[line.name] > 0
        else (0 if line.left < 0 else None, line)
        for line in grown
    ]
    found = [(workers, line) for workers, line in bounds if workers is not None]
    workers, stopped_by = min(found, key=lambda bound: bound[0], default=(None, None))
    if stopped_by is not None and stopped_by.name in now:
        stopped_by = now[stopped_by.name]
    return Room(application, like.name, workers, stopped_by, {name: more for name, more in takes.items() if more > 0})


def rooms(fleet: Fleet) -> list[Room]:
    """The room for each application. Where its worker hosts differ, for the kind of which fewest fit."""
    found = []
    for application in fleet.applications:
        kinds: dict[str, Host] = {}
        for host in (one for one in fleet.of_application(application, "celery_worker") if not one.drained):
            kind = repr([sorted(host.roles), sorted(host.measured.items()), *(host.inputs.get(name) for name in KIND)])
            kinds.setdefault(kind, host)
        each = [room_for(fleet, application, host) for host in kinds.values()]
        if each:
            found.append(min(each, key=lambda room: float("inf") if room.workers is None else room.workers))
    return found
