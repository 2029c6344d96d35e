#!/usr/bin/python3
"""Makes a classic queue of a broker a quorum queue, without losing a job."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_queue_type
short_description: Make a classic queue a quorum queue
description:
  - Runs on the broker's host and needs no management plugin, no AMQP library and no password.
  - Moves the jobs to a quorum queue beside it, each confirmed before it leaves, replaces the queue by a quorum queue of its name,
    arguments and bindings, and moves the jobs back. Publishers wait only while the empty queue is replaced (C(held_ms)).
  - An interrupted run can duplicate a job, but never loses one; the next run completes it.
options:
  vhost: {description: The application's virtual host., type: str, required: true}
  queue: {description: The queue., type: str, required: true}
  unused: {description: Refuse a queue with consumers; false for a first look before they are stopped., type: bool, default: true}
  timeout: {description: Seconds to empty the queue while jobs arrive., type: int, default: 600}
author: maintainers
"""

EXAMPLES = r"""
- name: Make mail a quorum queue
  rabbitmq_queue_type:
    vhost: newsroom
    queue: mail
"""

RETURN = r"""
msg: {description: What was done., type: str, returned: success}
before: {description: Jobs in the queue when it began., type: int, returned: always}
moved: {description: Jobs that were moved and are in the quorum queue now., type: int, returned: when changed}
held_ms: {description: Milliseconds for which publishers waited., type: int, returned: when changed}
bindings: {description: Bindings that the queue has again., type: int, returned: when changed}
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import queue_switch, rabbitmq_cli
from ..module_utils.amqp_wire import AmqpError, Connection, Message
from ..module_utils.broker_operator import alone, endpoint, operator, tls_context
from ..module_utils.job_copies import BATCH, copy, full
from ..module_utils.rabbitmq_objects import Refusal

LOCK = "/run/grunnfjell-queue-type.lock"
OPERATOR = "grunnfjell-queue-type"
IDLE_S = 0.01
ATTEMPTS = 3
COUNTED_S = 10


def move(connection: Connection, jobs: list[Message], target: str) -> None:
    """Moves jobs of one source, in their order. They leave it once the broker has confirmed each in the target."""
    connection.publish("", target, *map(copy, jobs))
    connection.ack(jobs[-1].tag, up_to=True)


def waiting(connection: Connection, queue: str) -> list[Message]:
    """The next jobs of a queue; empty if none waits."""
    return batch(lambda: connection.get(queue), BATCH)


def batch(following: Callable[[], Message | None], number: int) -> list[Message]:
    """At most this number of jobs, and fewer if they are large."""
    jobs: list[Message] = []
    while len(jobs) < number and not full(jobs):
        job = following()
        if job is None:
            break
        jobs.append(job)
    return jobs


class Switch:
    """One replacement of a queue."""

    def __init__(self, params: dict[str, Any], state: dict[str, Any]) -> None:
        self.vhost, self.queue, self.timeout = params["vhost"], params["queue"], params["timeout"]
        self.aside, self.state = aside_of(self.queue), state

    def ask(self, expression: str) -> Any:
        return queue_switch.ask(expression, self.vhost, self.queue, self.aside, OPERATOR)

    def connect(self, password: str) -> Connection:
        listener = endpoint(self.state["listeners"])
        tls = tls_context(listener, self.state["tls"])
        at = (listener["address"], int(listener["port"]))
        # An alarm that holds it is no error here: the broker goes on reading in a moment.
        return Connection(*at, OPERATOR, password, self.vhost, timeout=60, tls=tls, name=OPERATOR, told_of_alarms=False)

    def empty(self, password: str) -> dict[str, Any]:
        """Moves every job aside, and replaces the queue as soon as it is empty."""
        answer: dict[str, Any] = {}
        deadline = time.monotonic() + self.timeout
        for _ in range(ATTEMPTS):
            with self.connect(password) as connection:
                # The last jobs follow while publishers wait, or a busy queue would never be empty.
                while full(jobs := waiting(connection, self.queue)):
                    move(connection, jobs, self.aside)
                    if time.monotonic() > deadline:
                        raise Refusal(f"Jobs arrived as fast as they were moved for {self.timeout} s. Try at a quieter hour.")
                if jobs:
                    move(connection, jobs, self.aside)
                answer = self.replace(connection)
            if answer["switched"]:
                return answer
        raise Refusal(f"{self.vhost}/{self.queue} did not stay empty while publishers waited ({answer['why']}).")

    def replace(self, connection: Connection) -> dict[str, Any]:
        """Moves the last jobs, which were under way, while the broker waits for an empty queue."""
        with ThreadPoolExecutor() as pool:
            replacement = pool.submit(self.ask, queue_switch.SWITCH)
            try:
                while not replacement.done():
                    if jobs := waiting(connection, self.queue):
                        move(connection, jobs, self.aside)
                    else:
                        time.sleep(IDLE_S)  # between two looks at the queue
            except AmqpError:
                # Between the deletion and the declaration there is no queue to look into, and this connection holds no job.
                if not replacement.result()["switched"]:
                    raise
            return replacement.result()

    def bring_back(self, password: str) -> int:
        """Moves the jobs into the new queue, and removes the one beside it; returns their number."""
        moved = 0
        # Until the broker counts none: jobs that a broken connection held return to the queue a moment later.
        while (left := self.ask(queue_switch.STATE)["aside"]["messages"]) > 0:
            with self.connect(password) as connection:
                connection.consume(self.aside, BATCH)
                while left:
                    jobs = batch(connection.delivered, min(left, BATCH))
                    move(connection, jobs, self.queue)
                    moved, left = moved + len(jobs), left - len(jobs)
                connection.finish()
        # The broker counts a consumer for a moment after its end.
        deadline = time.monotonic() + COUNTED_S
        while not (dropped := self.ask(queue_switch.DROP_ASIDE)) and time.monotonic() < deadline:
            time.sleep(IDLE_S)  # between two looks at its consumers; the deadline ends them
        if not dropped:
            raise Refusal(f"{self.vhost}/{self.aside} did not stay empty: it has a publisher or a consumer. Run again.")
        return moved

    def run(self) -> dict[str, Any]:
        result: dict[str, Any] = {"held_ms": 0, "bindings": None}
        if why := self.ask(queue_switch.SET_ASIDE):
            raise Refusal(f"A quorum queue cannot have the arguments of {self.vhost}/{self.queue}: {why[:300]}")
        with operator(OPERATOR, [self.vhost], "^(?!dead_letters$).*") as password:
            try:
                queue = self.state["queue"]
                if queue is None:
                    result |= self.ask(queue_switch.SWITCH)
                elif queue["type"] == "classic":
                    result |= self.empty(password)
            finally:
                # Also after a failure: the jobs go back into the queue, whatever it is now.
                result["moved"] = self.bring_back(password)
        return result


def sentence(asked: dict[str, Any], result: dict[str, Any]) -> str:
    place = f"{asked['vhost']}/{asked['queue']}"
    if not result["changed"]:
        return f"{place} was a quorum queue already."
    if "moved" not in result:
        return f"{place} would become a quorum queue, with its {result['before']} jobs."
    return (
        f"{place} is a quorum queue. It held {result['before']} jobs at the beginning; {result['moved']} were moved, each "
        f"confirmed before it left. Publishers waited for {result['held_ms'] / 1000:.1f} s."
    )


def aside_of(queue: str) -> str:
    return f"{queue}.moving"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "vhost": {"type": "str", "required": True},
            "queue": {"type": "str", "required": True},
            "unused": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    asked = module.params
    result: dict[str, Any] = {"changed": False, "before": 0}
    try:
        words = (asked["vhost"], asked["queue"], aside_of(asked["queue"]), OPERATOR)
        state = queue_switch.ask(queue_switch.STATE, *words)
        queue_switch.refuse(asked["vhost"], asked["queue"], state, asked["unused"] and not module.check_mode)
        result["before"] = sum((state[key] or {}).get("messages", 0) for key in ("queue", "aside"))
        result["changed"] = state["aside"] is not None or state["queue"]["type"] == "classic"
        if result["changed"] and not module.check_mode and asked["unused"]:
            with alone(LOCK, "change of a queue's type"):
                result |= Switch(asked, state).run()
        result["msg"] = sentence(asked, result)
    except (Refusal, rabbitmq_cli.CliError) as refusal:
        module.fail_json(msg=str(refusal), **result)
    except (AmqpError, OSError) as error:
        module.fail_json(msg=f"It ended early: {str(error) or type(error).__name__}. No job is lost; run it again.", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
