"""Which queues can lose jobs, by what the broker has, whatever the application's code declares."""

from __future__ import annotations

import re
import time
from typing import Any

from . import rabbitmq_cli
from .celery_queues import LIMIT, PRIORITIES, known_as, source
from .celery_queues import QUEUE_TYPE as TYPE
from .rabbitmq_objects import DEAD_LETTERS, TO_DEAD_LETTERS, WORK_QUEUES, major
from .rabbitmq_status import FACTS

POLICIES = "see rabbitmq_policies, and run playbooks/rabbitmq.yml"
DECLARE = "let the application's code declare it otherwise, under another name"
POLL_S = 1

# The queues of a virtual host with what they are and how many consumers they have, on any member of the cluster.
QUEUES = (
    FACTS
    + """
    VHost = VHOST,
    Consumed = [element(4, proplists:get_value(queue_name, C)) || C <- rabbit_amqqueue:consumers_all(VHost)],
    #{version => list_to_binary(rabbit_misc:version()),
      queues => [(Facts(Q))#{consumers => length([N || N <- Consumed, N =:= element(4, amqqueue:get_name(Q))])}
                 || Q <- rabbit_amqqueue:list(VHost)]}
"""
)


def is_work(name: str) -> bool:
    """Whether jobs wait in it: neither dead letters nor a queue of Celery's own."""
    return bool(re.match(WORK_QUEUES, name))


def names(queue: dict[str, Any]) -> list[str]:
    """The names that the inventory can have for a queue of the broker."""
    return known_as(queue["name"], queue.get("exchanges", []))


def faults(queue: dict[str, Any], version: str, time_limit: int | None = None) -> list[dict[str, str]]:
    """Each way in which a queue can lose a job: the setting of the promise that it breaks, and a sentence without a full stop.

    time_limit: of the application's tasks, in seconds; None where it is not known.
    """
    found = [*kept_faults(queue, version), *dropped_faults(queue), *cut_tasks(queue, version, time_limit)]
    return [{"setting": setting, "text": text} for setting, text in found]


def kept_faults(queue: dict[str, Any], version: str) -> list[tuple[str, str]]:
    """How a queue fails to keep a job that fails, or that waits while the broker restarts."""
    name, kind, target = queue["name"], queue["type"], queue["dead_letters_to"]
    place = f"{queue['vhost']}/{name}"
    lost = f"a job that fails in {place} is lost and never a dead letter"
    if queue["priorities"] is not None:
        what, remedy = f"classic queue with {queue['priorities']} priorities", f"{DECLARE}, without x-max-priority"
        return [(PRIORITIES, f"{classic_harm(target, place, lost)}, since it is a {what}: {remedy}")]
    if queue["temporary"]:
        return [(TYPE, f"the jobs in {place} are lost with its connection or a restart of the broker: {DECLARE} and durable")]
    if kind == "classic":
        harm = classic_harm(target, place, lost)
        return [(TYPE, f"{harm}, since it is a classic queue: make queue-type QUEUE={name}")]
    if kind != "quorum":
        return [(TYPE, f"{lost}, since it is a {kind} queue: {DECLARE}")]
    found, limit = [], queue["delivery_limit"]
    if target is None:
        found.append((TYPE, f"{lost}, since no policy with a dead-letter exchange applies to it: {POLICIES}"))
    elif target != DEAD_LETTERS:
        found.append((TYPE, f"a job that fails in {place} goes to the exchange {target}, not to {DEAD_LETTERS}: {POLICIES}"))
    elif queue["strategy"] != TO_DEAD_LETTERS["dead-letter-strategy"]:
        found.append((TYPE, f"a job that fails in {place} can be lost on its way ({queue['strategy']}): {POLICIES}"))
    if (limit is None and major(version) < 4) or (limit is not None and limit < 0):
        found.append((TYPE, f"a job that kills its process runs in {place} for ever, since it has no delivery limit: {POLICIES}"))
    return found


def classic_harm(target: str | None, place: str, lost: str) -> str:
    """What happens to a job that a classic queue cannot keep: it counts no deliveries, whatever its dead-letter exchange."""
    if target == DEAD_LETTERS:
        return f"a job that kills its process runs in {place} for ever"
    return f"a job that fails in {place} goes to the exchange {target}, not to {DEAD_LETTERS}" if target else lost


def dropped_faults(queue: dict[str, Any]) -> list[tuple[str, str]]:
    """Limits at which the broker drops waiting jobs."""
    place, remedy = f"{queue['vhost']}/{queue['name']}", f"{DECLARE}, or {POLICIES}"
    found = []
    if queue["ttl_ms"] is not None:
        found.append((TYPE, f"a job that waits in {place} for more than {queue['ttl_ms'] / 1000:g} s is not run: {remedy}"))
    if queue["expires_ms"] is not None:
        found.append((TYPE, f"{place} is deleted when it is unused for {queue['expires_ms'] / 1000:g} s: {remedy}"))
    if queue["max_length"] is not None and queue["overflow"] != TO_DEAD_LETTERS["overflow"]:
        found.append((TYPE, f"a job in {place} is not run when more than {queue['max_length']} of them wait: {remedy}"))
    return found


def cut_tasks(queue: dict[str, Any], version: str, time_limit: int | None) -> list[tuple[str, str]]:
    """A consumer timeout of the queue, which RabbitMQ 3.10 does not know, that ends before a task does."""
    patience = queue["consumer_timeout_ms"]
    if patience is None or time_limit is None or major(version) < 4 or not patience <= 1000 * time_limit:
        return []
    return [
        (
            LIMIT,
            f"a job in {queue['vhost']}/{queue['name']} is taken back after {patience / 1000:g} s and runs again, though "
            f"application_time_limit is {time_limit} s: {DECLARE}, without x-consumer-timeout, or {POLICIES}",
        )
    ]


def of_work(answer: dict[str, Any]) -> list[dict[str, str]]:
    """A sentence for each way in which a work queue can lose a job.  answer: version and queues of the broker."""
    return [
        {"vhost": queue["vhost"], "queue": queue["name"], "type": queue["type"], "text": fault["text"]}
        for queue in sorted(answer["queues"], key=lambda queue: (queue["vhost"], queue["name"]))
        if is_work(queue["name"])
        for fault in faults(queue, answer["version"])
    ]


def read(vhost: str) -> dict[str, Any]:
    """Version of the broker and the queues of a virtual host."""
    return rabbitmq_cli.ask(QUEUES.replace("VHOST", rabbitmq_cli.erlang_binary(vhost)))


def unconsumed(answer: dict[str, Any], sent: dict[str, str], consumed: list[str]) -> list[dict[str, str]]:
    """Faults of queues that jobs are sent to, or that a worker should consume, and that nobody consumes."""
    consumers: dict[str, int] = {}
    for queue in answer["queues"]:
        for name in names(queue):
            consumers[name] = consumers.get(name, 0) + queue["consumers"]
    found = []
    for name, setting in (dict.fromkeys(consumed, "") | sent).items():
        if consumers.get(name):
            continue
        what = "has no consumer" if name in consumers else "does not exist"
        use = source(setting, name) if setting else f"a worker should consume the queue {name}"
        remedy = "start a program that consumes it (celery_worker_programs)"
        found.append({"setting": setting, "text": f"{use}, which {what} on the broker: {remedy}"})
    return found


def wait_for_consumers(vhost: str, sent: dict[str, str], consumed: list[str], patience: float) -> dict[str, Any]:
    """The broker's answer once every queue has a consumer, or when the patience is over."""
    deadline = time.monotonic() + patience
    while True:
        answer = read(vhost)
        if not unconsumed(answer, sent, consumed) or time.monotonic() > deadline:
            return answer
        time.sleep(POLL_S)  # between two looks; the deadline ends them
