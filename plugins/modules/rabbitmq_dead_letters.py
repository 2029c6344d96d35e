#!/usr/bin/python3
"""Lists the dead letters of a broker's virtual hosts, and sends them back to the queues that they came from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_dead_letters
short_description: List or replay a RabbitMQ broker's dead letters
description:
  - Runs on the broker's host and needs no management plugin, no AMQP library and no password.
  - C(list) peeks. No letter is delivered, reordered or counted as delivered. Task arguments are returned only with
    I(show_arguments).
  - C(replay) sends each chosen letter only to the queue that it died in, as a new message without the headers of its death, and
    removes it from the dead letters only once the broker has confirmed that. An interrupted replay can duplicate a letter, but
    never loses one.
  - During a replay there is a temporary user with a random password.
options:
  action: {description: What to do., type: str, choices: [list, replay], default: list}
  vhosts: {description: Virtual hosts; empty for all., type: list, elements: str, default: []}
  ids: {description: Letters to choose by the task's id., type: list, elements: str, default: []}
  task: {description: Letters to choose by the task's name., type: str, default: ""}
  everything: {description: Choose all letters., type: bool, default: false}
  limit: {description: "Letters to list, or to replay, at most in each virtual host.", type: int, default: 100}
  show_arguments: {description: "Return each task's arguments, which may be personal.", type: bool, default: false}
author: maintainers
"""

EXAMPLES = r"""
- name: List the dead letters
  rabbitmq_dead_letters:

- name: Give one job another try
  rabbitmq_dead_letters:
    action: replay
    ids: [0193e5a4-7c3e-7000-8000-000000000000]
"""

RETURN = r"""
letters: {description: "The listed letters, oldest first.", type: list, elements: dict, returned: always}
without:
  description: "Work queues that can lose jobs, each with C(vhost), C(queue), C(type) and C(text), a sentence."
  type: list
  elements: dict
  returned: always
totals: {description: Virtual host to the number of its dead letters before the replay., type: dict, returned: always}
replayed: {description: Virtual host and id of each letter that was sent back., type: list, elements: dict, returned: always}
kept: {description: "Chosen letters that could not be sent back, and why.", type: list, elements: dict, returned: always}
"""

import base64
import json
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import queue_faults, rabbitmq_cli
from ..module_utils.amqp_wire import PERSISTENT, AmqpError, Connection, Message, Undelivered
from ..module_utils.broker_operator import alone, endpoint, operator, tls_context
from ..module_utils.rabbitmq_objects import Refusal
from ..module_utils.rabbitmq_peek import expression

QUEUE = "dead_letters"
LOCK = "/run/grunnfjell-dead-letters.lock"

# Of one operator at a time. If this process is killed, the next replay removes it, and so does the next run of role rabbitmq.
OPERATOR = "grunnfjell-dead-letters"

# Headers of the death, which a new message must not have, and copies to other queues, which were delivered when the job was first
# published.
HISTORY = {"x-death", "x-delivery-count", "x-acquired-count", "CC", "BCC"}
HISTORY_PREFIXES = ("x-first-death-", "x-last-death-")

# user_id must be the publisher's, and the time to live is over.
NOT_KEPT = ("user_id", "expiration", "cluster_id")


def home(deaths: list[dict[str, Any]], last: str | None) -> str | None:
    """The queue that a letter died in: the broker's header since 4.0, before that the first entry of its deaths, the latest."""
    return last or (deaths[0].get("queue") if deaths else None)


def described(vhost: str, letter: dict[str, Any], show_arguments: bool) -> dict[str, Any]:
    """A letter as the report needs it."""
    deaths = letter["deaths"]
    queue = home(deaths, letter["x-last-death-queue"])
    death = next((entry for entry in deaths if entry.get("queue") == queue), {})
    shown = {
        "vhost": vhost,
        "id": letter["id"],
        "task": letter["task"],
        "reason": death.get("reason"),
        "queue": queue,
        "count": death.get("count"),
        "died_at": death.get("time"),
        "retries": letter["retries"],
        "expires": letter["expires"],
        "expired": expired(letter["expires"]),
        "origin": letter["origin"],
    }
    if show_arguments:
        args, kwargs = called_with(letter.get("body"))
        shown |= {
            "args": letter["argsrepr"] if args is None else args,
            "kwargs": letter["kwargsrepr"] if kwargs is None else kwargs,
        }
    return shown


def called_with(body: str | None) -> tuple[str | None, str | None]:
    """The task's arguments from its message's body in base64, since the headers are redacted. None where it is not JSON."""
    try:
        args, kwargs, _ = json.loads(base64.b64decode(body or ""))
    except (ValueError, TypeError):
        return None, None
    return repr(args), repr(kwargs)


def expired(expires: Any) -> bool:
    """Whether the job's deadline has passed, so a worker would discard it."""
    try:
        deadline = datetime.fromisoformat(str(expires))
    except ValueError:
        return False
    return (deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC)) < datetime.now(UTC)


def chosen(message: Message, ids: list[str], task: str, everything: bool) -> bool:
    return everything or message.header("id") in ids or (bool(task) and message.header("task") == task)


def reborn(letter: Message) -> Message:
    """The same job as a new message: its body and headers byte for byte, without those of its death."""
    headers = {name: raw for name, raw in letter.headers.items() if name not in HISTORY and not name.startswith(HISTORY_PREFIXES)}
    properties = {name: raw for name, raw in letter.properties.items() if name not in NOT_KEPT}
    return Message(letter.body, properties | {"delivery_mode": PERSISTENT}, headers)


def replay(connection: Connection, vhost: str, depth: int, params: dict[str, Any], result: dict[str, Any]) -> None:
    """Adds the letters that were sent back, and those that could not be, to the result.

    Other letters are held until the end, then returned unchanged.
    """
    replayed = 0
    # Only letters that were there at the beginning: a job that dies again meanwhile is a new letter.
    for _ in range(depth):
        if replayed >= params["limit"] or (letter := connection.get(QUEUE)) is None:
            break
        if not chosen(letter, params["ids"], params["task"], params["everything"]):
            continue
        name = letter.header("id")
        if expired(letter.header("expires")):
            why = f"its deadline passed at {letter.header('expires')}, so a worker would discard it"
            result["kept"].append({"vhost": vhost, "id": name, "why": why})
            continue
        queue = home(letter.header("x-death") or [], letter.header("x-last-death-queue"))
        if queue is None:
            result["kept"].append({"vhost": vhost, "id": name, "why": "it does not say which queue it died in"})
            continue
        try:
            connection.publish("", queue, reborn(letter))
        except Undelivered as error:
            result["kept"].append({"vhost": vhost, "id": name, "why": f"{queue}: {error}"})
            continue
        connection.ack(letter.tag)
        result["replayed"].append({"vhost": vhost, "id": name})
        replayed += 1
    connection.finish()


def refuse_unsafe(queue: dict[str, Any]) -> None:
    """A letter that is read and returned must stay in the queue."""
    for setting, name in (("delivery_limit", "delivery limit"), ("ttl", "message TTL")):
        if queue[setting] is not None:
            raise Refusal(
                f"{queue['vhost']}/{QUEUE} has a {name} of {queue[setting]}, which destroys dead letters. Take dead_letters "
                "out of the policy's pattern in rabbitmq_policies, or run playbooks/rabbitmq.yml if its policy is missing."
            )


def run(params: dict[str, Any], check_mode: bool, result: dict[str, Any]) -> None:
    replaying = params["action"] == "replay"
    if replaying and not (params["ids"] or params["task"] or params["everything"]):
        raise Refusal("Choose the letters: dead_letters_ids, dead_letters_task, or dead_letters_all=true.")
    peeks = 0 if replaying else params["limit"]
    seen = rabbitmq_cli.ask(expression(params["vhosts"], peeks, params["show_arguments"]))
    queues = seen["letters"]
    if missing := sorted(set(params["vhosts"]) - {queue["vhost"] for queue in queues}):
        raise Refusal(f"The broker has no virtual host {', '.join(missing)} with dead letters.")
    result["totals"] = {queue["vhost"]: queue["ready"] for queue in queues}
    result["letters"] = [
        described(queue["vhost"], letter, params["show_arguments"]) for queue in queues for letter in queue["letters"]
    ]
    result["without"] = queue_faults.of_work(seen)
    full = [queue for queue in queues if queue["ready"]]
    if not replaying or check_mode:
        return
    if not full:
        with alone(LOCK, "replay"):  # one that was killed after its last letter has left its user
            if OPERATOR in rabbitmq_cli.call("list_users").split():
                rabbitmq_cli.call("delete_user", OPERATOR)
        return
    for queue in full:
        refuse_unsafe(queue)
    listener = endpoint(seen["listeners"])
    with alone(LOCK, "replay"), operator(OPERATOR, [queue["vhost"] for queue in full], f"^{QUEUE}$") as password:
        for queue in full:
            vhost, at = queue["vhost"], (listener["address"], int(listener["port"]))
            tls = tls_context(listener, seen["tls"])
            with Connection(*at, OPERATOR, password, vhost, tls=tls, name=OPERATOR) as connection:
                replay(connection, vhost, queue["ready"], params, result)
    result["changed"] = bool(result["replayed"])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "action": {"type": "str", "choices": ["list", "replay"], "default": "list"},
            "vhosts": {"type": "list", "elements": "str", "default": []},
            "ids": {"type": "list", "elements": "str", "default": []},
            "task": {"type": "str", "default": ""},
            "everything": {"type": "bool", "default": False},
            "limit": {"type": "int", "default": 100},
            "show_arguments": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    result: dict[str, Any] = {"changed": False, "totals": {}, "letters": [], "without": [], "replayed": [], "kept": []}
    try:
        run(module.params, module.check_mode, result)
    except (Refusal, rabbitmq_cli.CliError) as refusal:
        module.fail_json(msg=str(refusal), **result)
    except (AmqpError, OSError) as error:
        sentence = f"The replay ended early, after {len(result['replayed'])} letters: {str(error) or type(error).__name__}."
        module.fail_json(msg=f"{sentence} No letter is lost; run it again.", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
