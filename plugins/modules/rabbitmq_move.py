#!/usr/bin/python3
"""Hands everything that a broker holds and still gets to the broker that has taken its place."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_move
short_description: Empty a broker into the one that has taken its place
description:
  - Runs on the host of the broker to empty and needs no plugin on either side. It consumes every queue that holds jobs, in every
    virtual host, and publishes each job to the queue of the same name on the other broker. A job leaves this broker once the
    other one has confirmed it.
  - A delayed job keeps its destination; its present step begins again, which makes it later by that step at most.
  - Ends once this broker is empty and no client is connected to it. Fails with what is left after I(patience) seconds in which
    nothing was moved, or in which only new jobs came and their client stays connected.
  - An interrupted run can duplicate a job, but never loses one; the next run continues.
options:
  successor: {description: 'Where the other broker listens, C(address:port).', type: str, required: true}
  cacertfile: {description: File of the authorities of its certificate., type: path, required: true}
  identity: {description: Directory with this broker's key.pem and certificate.pem., type: path, required: true}
  users: {description: Users of both brokers with their permissions., type: list, elements: dict, required: true}
  user_passwords: {description: User to password., type: dict, required: true}
  names: {description: Host to its address, for sentences., type: dict, default: {}}
  patience: {description: Seconds after which it fails., type: int, default: 120}
author: maintainers
"""

EXAMPLES = r"""
- name: Empty this broker into broker2
  rabbitmq_move:
    successor: 10.0.0.12:5671
    cacertfile: /etc/grunnfjell/pki/authorities.pem
    identity: /etc/grunnfjell/pki/rabbitmq
    users: [{name: shop, permissions: [{vhost: shop}]}]
    user_passwords: "{{ vault_rabbitmq_user_passwords }}"
"""

RETURN = r"""
msg: {description: What was moved., type: str, returned: success}
moved: {description: "Jobs, delayed jobs and dead letters that were moved.", type: dict, returned: always}
left: {description: What is left., type: list, elements: str, returned: always}
"""

import os
import ssl
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import broker_successor, rabbitmq_cli
from ..module_utils.amqp_wire import AmqpError, Connection, Message
from ..module_utils.broker_operator import endpoint, operator, tls_context
from ..module_utils.broker_successor import OPERATOR, held, kind_of, left, missing_queues, place, publisher
from ..module_utils.job_copies import BATCH, copy, full
from ..module_utils.rabbitmq_objects import Refusal

# Of the process: two may run at once, the one that an earlier step left behind and this one.
USER = f"{OPERATOR}-{os.getpid()}"
# Between two looks at the broker's queues and clients, each of which takes a second.
LOOK_EVERY_S = 5.0
IDLE_S = 0.1
SOCKET_S = 60.0


class Lane:
    """The queues of one virtual host."""

    def __init__(self, source: Connection, target: Connection, queues: list[str]) -> None:
        self.source, self.target, self.queues = source, target, queues
        for queue in queues:
            source.consume(queue, BATCH, queue)

    def move(self) -> Counter[str]:
        """Moves what has been delivered. It leaves this broker once the other one has confirmed all of it."""
        jobs: list[Message] = []
        while not full(jobs) and self.source.pending(0 if jobs else IDLE_S):
            jobs.append(self.source.delivered())
        if jobs:
            self.target.publish_all([(*place(job.consumer, job.routing_key), copy(job)) for job in jobs])
            # One by one: an acknowledgement of all up to a tag would include a delivery that was overlooked.
            for job in jobs:
                self.source.ack(job.tag)
        return Counter(kind_of(job.consumer) for job in jobs)


class Move:
    """One run."""

    def __init__(self, params: dict[str, Any], result: dict[str, Any]) -> None:
        self.params, self.result = params, result
        self.address, _, port = params["successor"].rpartition(":")
        self.address, self.port = self.address.strip("[]"), int(port)
        self.names = {address: host for host, address in params["names"].items()}
        self.moved: Counter[str] = Counter()
        self.targets: dict[str, Connection] = {}
        self.existing: set[tuple[str, str]] = set()
        self.lanes: dict[str, Lane] = {}

    def successor(self, vhost: str) -> Connection:
        user, password = publisher(vhost, self.params["users"], self.params["user_passwords"])
        context = ssl.create_default_context(cafile=self.params["cacertfile"])
        identity = Path(self.params["identity"])
        context.load_cert_chain(identity / "certificate.pem", identity / "key.pem")
        try:
            return Connection(self.address, self.port, user, password, vhost, timeout=SOCKET_S, tls=context, name=USER)
        except (AmqpError, OSError) as error:
            raise Refusal(
                f"The broker at {self.params['successor']}, to which everything has to go, accepts no connection to the virtual "
                f"host '{vhost}': {str(error) or type(error).__name__}. Run site.yml, which prepares it."
            ) from error

    def own(self, state: dict[str, Any], vhost: str, password: str) -> Connection:
        listener = endpoint(state["listeners"])
        tls = tls_context(listener, state["tls"])
        at = (listener["address"], int(listener["port"]))
        return Connection(*at, USER, password, vhost, timeout=SOCKET_S, tls=tls, name=USER)

    def compare(self, state: dict[str, Any], stack: ExitStack) -> None:
        """Notes which queues the successor has too: what is in others stays, and the rest is moved all the same."""
        for queue in state["queues"]:
            vhost, name = queue["vhost"], queue["name"]
            if vhost not in self.targets:
                self.targets[vhost] = stack.enter_context(self.successor(vhost))
            if (vhost, name) not in self.existing and self.targets[vhost].has(name):
                self.existing.add((vhost, name))

    def open(self, state: dict[str, Any], password: str, stack: ExitStack) -> None:
        """Consumes every queue that the successor has, those that are new since the last look too."""
        for vhost, target in self.targets.items():
            names = sorted(name for place, name in self.existing if place == vhost)
            lane = self.lanes.get(vhost)
            if names and (lane is None or lane.queues != names):
                if lane is not None:
                    lane.source.finish()
                self.lanes[vhost] = Lane(stack.enter_context(self.own(state, vhost, password)), target, names)

    def move(self) -> bool:
        moved = sum((lane.move() for lane in self.lanes.values()), Counter())
        self.moved += moved
        self.result.update(moved=dict(self.moved), changed=bool(self.moved))
        return bool(moved)

    def run(self, state: dict[str, Any]) -> None:
        vhosts = sorted({queue["vhost"] for queue in state["queues"]})
        with operator(USER, vhosts, ".*") as password, ExitStack() as stack, ThreadPoolExecutor(1) as pool:
            moved_at = full_at = time.monotonic()
            empty = 0
            while empty < 2:  # a client may connect again between two attempts
                self.compare(state, stack)
                self.open(state, password, stack)
                following: Future[dict[str, Any]] = pool.submit(broker_successor.look)
                until = time.monotonic() + LOOK_EVERY_S
                while not following.done() or time.monotonic() < until:
                    if self.move():
                        moved_at = time.monotonic()
                    elif not self.lanes:
                        time.sleep(IDLE_S)  # until the next look; nothing is to be moved
                state = following.result()
                full_at = time.monotonic() if held(state) > BATCH else full_at
                self.result["left"] = left(state, self.names)
                empty = 0 if self.result["left"] else empty + 1
                self.give_up(state, moved_at, full_at)

    def give_up(self, state: dict[str, Any], moved_at: float, full_at: float) -> None:
        """Raises a sentence once nothing was moved for too long, or somebody stays connected after all was moved."""
        latest = min(moved_at, full_at) if state["clients"] else moved_at
        if self.result["left"] and time.monotonic() - latest > self.params["patience"]:
            stay = missing_queues(state["queues"], self.existing, self.params["successor"])
            raise Refusal(
                f"This broker is not empty after {self.params['patience']} s: {'; '.join(self.result['left'])}. "
                f"{' '.join([*stay, 'Then run playbooks/move_broker.yml.'])}"
            )


def sentence(moved: dict[str, int], successor: str) -> str:
    what = ", ".join(f"{number} {kind}" for kind, number in sorted(moved.items())) or "nothing"
    return (
        f"This broker is empty, and nobody is connected to it. Moved to {successor}: {what}. Take this host out of the "
        f"inventory, and run site.yml."
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "successor": {"type": "str", "required": True},
            "cacertfile": {"type": "path", "required": True},
            "identity": {"type": "path", "required": True},
            "users": {"type": "list", "elements": "dict", "required": True},
            "user_passwords": {"type": "dict", "required": True, "no_log": True},
            "names": {"type": "dict", "default": {}},
            "patience": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    result: dict[str, Any] = {"changed": False, "moved": {}, "left": []}
    try:
        state = broker_successor.look()
        move = Move(module.params, result)
        result["left"] = left(state, move.names)
        if module.check_mode:
            module.exit_json(msg=f"It would be emptied; now {'; '.join(result['left']) or 'it is empty'}.", **result)
        move.run(state)
    except (Refusal, rabbitmq_cli.CliError) as refusal:
        module.fail_json(msg=str(refusal), **result)
    except (AmqpError, OSError) as error:
        module.fail_json(msg=f"It ended early: {str(error) or type(error).__name__}. No job is lost; run it again.", **result)
    module.exit_json(msg=sentence(result["moved"], module.params["successor"]), **result)


if __name__ == "__main__":
    main()
