"""Whether the queues of a live Celery process keep the promise that accepted jobs run."""

from __future__ import annotations

import re
from collections.abc import Iterable

REMEDY = "Take it out of the application's code, or waive it with a reason in application_waivers."
QUEUE_TYPE = "task_default_queue_type"
PRIORITIES = "task_queue_max_priority"
LIMIT, PATIENCE = "task_time_limit", "x-consumer-timeout"
DECLARED = "task_queues"  # declares a queue, which the code may send jobs to by its name
# From this one on, a quorum queue of RabbitMQ 4 hands a job out before others; it knows no further difference.
URGENT = 5
# Property of a queue to the promise that it breaks when it is set, and the harm.
QUEUE_PROMISES = {
    "no_ack": ("task_acks_late", "a job is forgotten as soon as a worker has it"),
    "auto_delete": (QUEUE_TYPE, "the queue is deleted with its last worker, and its jobs with it"),
    "exclusive": (QUEUE_TYPE, "the queue is deleted with its connection, and its jobs with it"),
    "expires": (QUEUE_TYPE, "the queue is deleted when it is unused, and its jobs with it"),
    "message_ttl": (QUEUE_TYPE, "a job that waits longer is not run"),
    "max_length": (QUEUE_TYPE, "a job is not run when more of them wait"),
    "max_length_bytes": (QUEUE_TYPE, "a job is not run when more of them wait"),
    "dead_letter_exchange": (QUEUE_TYPE, "a job that fails does not reach the dead letters"),
}
# The length of a queue that refuses further jobs, so their client learns it.
REFUSES = "reject-publish"
# A queue of one process, kombu's Broadcast for one: bcast.4ea6a4e4-1c7c-3d7a-9d5c-0a4b6a6b2f0e.
OF_A_PROCESS = re.compile(r"(?P<rest>.+?)[.-][0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def known_as(name: str, aliases: Iterable[str | None] = ()) -> list[str]:
    """The names that the inventory can have for a queue, the best first. Only the process knows the UUID of a queue of its own:
    the inventory has its alias, which for a Broadcast is its exchange too, or its name without the UUID."""
    if (own := OF_A_PROCESS.fullmatch(name)) is None:
        return [name]
    return [*filter(None, aliases), own["rest"], name]


def names_of(queue: dict) -> list[str]:
    """The same of a queue as Celery describes it."""
    return known_as(queue["name"], [queue.get("alias")])


def queues_broken(node: str, queues: list, promises: dict, waived: Iterable[str] = ()) -> list[str]:
    """Sentences for queues that can lose jobs, of a worker that consumes them or of a client that publishes to them."""
    sentences = []
    for queue in queues:
        if not set(names_of(queue)).isdisjoint(waived):
            continue
        waiver = f"or name {names_of(queue)[0]} with a reason in application_waived_queues"
        name, arguments = queue["name"], queue.get("queue_arguments") or {}
        kind = arguments.get("x-queue-type", "classic")
        priorities = arguments.get("x-max-priority", queue.get("max_priority"))
        if priorities is not None and PRIORITIES in promises:
            sentences.append(
                f"{node}: the queue {name} declares {priorities} priorities, which only a classic queue has, and that counts no "
                f"deliveries. Take x-max-priority out of the application's code (in a quorum queue of RabbitMQ 4, a job with "
                f"priority 5 or more goes first), {waiver}."
            )
        elif QUEUE_TYPE in promises and kind != promises[QUEUE_TYPE]:
            sentences.append(
                f"{node}: the queue {name} is {kind}, but the promise needs {promises[QUEUE_TYPE]} ({QUEUE_TYPE}), since only "
                f"those count deliveries and move dead letters with a confirm. Let the code declare it durable and without "
                f"x-queue-type, and under an unused name if the broker has it, {waiver}."
            )
        patience = arguments.get(PATIENCE)  # of the broker, in milliseconds, for one delivery
        if LIMIT in promises and patience is not None and float(patience) / 1000 <= float(promises[LIMIT]):
            sentences.append(
                f"{node}: the queue {name} sets {PATIENCE}={patience} ms, but the promise needs more than {promises[LIMIT]} s "
                f"({LIMIT}): the broker takes a job back that still runs, and it runs again. {REMEDY}"
            )
        for key, (setting, harm) in QUEUE_PROMISES.items():
            value = queue.get(key) or arguments.get(f"x-{key.replace('_', '-')}")
            kept = key.startswith("max_length") and arguments.get("x-overflow") == REFUSES
            if setting in promises and value and not kept:
                sentences.append(
                    f"{node}: the queue {name} sets {key}={value}, but the promise needs {setting}: {harm}. Take it out of the "
                    f"application's code, {waiver}."
                )
    return sentences


def priorities_lost(node: str, conf: dict, of_tasks: list, promises: dict, waived: Iterable[str] = ()) -> list[str]:
    """A sentence if the code uses priorities between which a quorum queue makes no difference. Without one, a job has 0."""
    given = {0, *(int(number) for number in [*of_tasks, conf.get("task_default_priority")] if str(number).isdigit())}
    given |= route_priorities(conf.get("task_routes"), waived)
    same = [group for group in ([n for n in given if n < URGENT], [n for n in given if n >= URGENT]) if len(group) > 1]
    if PRIORITIES not in promises or not same:
        return []
    shown = " and ".join(", ".join(map(str, sorted(group))) for group in same)
    return [
        f"{node}: its tasks have the priorities {shown}, which are one to a quorum queue: RabbitMQ 4 prefers {URGENT} and more "
        f"to everything below, and 3.10 knows none. Use 0 and {URGENT} in the application's code, or waive {PRIORITIES} with a "
        f"reason in application_waivers."
    ]


def route_priorities(routes: object, waived: Iterable[str] = ()) -> set[int]:
    """The priorities in task_routes, in any of its forms except a function, without those of jobs for a waived queue."""
    if isinstance(routes, dict):
        if isinstance(routes.get("queue"), str) and routes["queue"] in waived:
            return set()
        own = {routes["priority"]} if isinstance(routes.get("priority"), int) else set()
        return own.union(*(route_priorities(route, waived) for route in routes.values()))
    return set().union(*(route_priorities(route, waived) for route in routes)) if isinstance(routes, list | tuple) else set()


def source(setting: str, queue: str) -> str:
    """How jobs come to a queue, for a sentence."""
    return f"{setting} {'declares' if setting == DECLARED else 'sends jobs to'} the queue {queue}"


def routed(routes: object) -> set[str]:
    """The queues that task_routes names, in any of its forms except a function."""
    if isinstance(routes, str):
        return {routes}
    if isinstance(routes, dict):
        return {routes["queue"]} if isinstance(routes.get("queue"), str) else set().union(*map(routed, routes.values()), set())
    if not isinstance(routes, list):
        return set()
    pair = len(routes) == 2 and isinstance(routes[0], str)
    return routed(routes[1]) if pair else set().union(*(routed(route) for route in routes if not isinstance(route, str)))
