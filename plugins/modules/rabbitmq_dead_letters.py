#!/usr/bin/python3
"""The dead letters of a broker's virtual hosts: seen without being touched, and sent back to the queues that they died in."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_dead_letters
short_description: List or replay a RabbitMQ broker's dead letters
description:
  - Runs on the broker's host and needs no management plugin, no AMQP library and no password.
  - C(list) peeks. No letter is delivered, reordered or counted as delivered. What a task was called with is told only with
    I(show_arguments).
  - C(replay) sends each chosen letter to the queue that it died in, to no other, as a new message without the history of its
    death, and takes it out of the dead letters only once the broker has confirmed that. A replay that is cut off leaves a letter
    twice at most, never nowhere.
  - For the time of a replay there is a user of its own with a random password that nobody sees.
options:
  action: {description: What to do., type: str, choices: [list, replay], default: list}
  vhosts: {description: Virtual hosts; none means all., type: list, elements: str, default: []}
  ids: {description: Letters to choose by the task's id., type: list, elements: str, default: []}
  task: {description: Letters to choose by the task's name., type: str, default: ""}
  everything: {description: Choose all letters., type: bool, default: false}
  limit: {description: "Letters to list, or to replay, at most in each virtual host.", type: int, default: 100}
  show_arguments: {description: "Tell what each task was called with, which may be personal.", type: bool, default: false}
author: maintainers
"""

EXAMPLES = r"""
- name: See what went wrong
  rabbitmq_dead_letters:

- name: Give one job another try
  rabbitmq_dead_letters:
    action: replay
    ids: [0193e5a4-7c3e-7000-8000-000000000000]
"""

RETURN = r"""
letters: {description: "The letters that are listed, oldest first.", type: list, elements: dict, returned: always}
totals: {description: Virtual host to the number of its dead letters before the replay., type: dict, returned: always}
replayed: {description: Virtual host and id of each letter that was sent back., type: list, elements: dict, returned: always}
kept: {description: "Chosen letters that could not be sent back, and why.", type: list, elements: dict, returned: always}
"""

import base64
import fcntl
import json
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import rabbitmq_cli
from ..module_utils.amqp_wire import PERSISTENT, AmqpError, Connection, Message, Undelivered

QUEUE = "dead_letters"
LOCK = "/run/grunnfjell-dead-letters.lock"

# Of one operator at a time. Should this process be killed, the next replay removes it, and so does the next run of role rabbitmq.
OPERATOR = "grunnfjell-dead-letters"

# The history of a death, which would make a fresh message an old one; and copies to other queues, which the letter's own
# first publishing has served already.
HISTORY = {"x-death", "x-delivery-count", "x-acquired-count", "CC", "BCC"}
HISTORY_PREFIXES = ("x-first-death-", "x-last-death-")

# A user's id must be the publisher's own, and a time to live has been used up.
NOT_KEPT = ("user_id", "expiration", "cluster_id")

# How the letters stand, by the same look at a queue's log that `rabbitmq-queues peek` takes.
LOOK = """
    Only = VHOSTS, Limit = LIMIT,
    Text = fun(B) when is_binary(B) -> B; (A) when is_atom(A) -> atom_to_binary(A, utf8);
              (T) -> iolist_to_binary(io_lib:format("~p", [T])) end,
    Plain = fun Go({table, T}) -> maps:from_list([{K, Go({Ty, V})} || {K, Ty, V} <- T]);
                Go({array, A}) -> [Go(V) || V <- A];
                Go({_, undefined}) -> null;
                Go({_, V}) when is_number(V); is_binary(V); is_boolean(V) -> V;
                Go({_, V}) -> Text(V) end,
    Get = fun(K, P) -> case proplists:get_value(<<"header.", K/binary>>, P) of
        undefined -> null; V when is_number(V); is_binary(V); is_boolean(V) -> V; V -> Text(V) end end,
    Content = fun(M) when element(1, M) =:= basic_message -> element(4, M);
                 (M) -> mc:protocol_state(mc:convert(mc_amqpl, M)) end,
    Body = fun(Q, Position) -> case catch ra:aux_command(amqqueue:get_pid(Q), {peek, Position}) of
        {ok, {_, M}} -> case catch rabbit_basic_common:from_content(Content(M)) of
            {_, B} when is_binary(B) -> base64:encode(B); _ -> null end;
        _ -> null end end,
    Letter = fun(Q, Position) -> case rabbit_quorum_queue:peek(Position, Q) of
        {ok, P} -> {true, (maps:from_list([{K, Get(K, P)} || K <- HEADERS]))#{
            body => case BODIES of true -> Body(Q, Position); false -> null end,
            deaths => [Plain(D) || D <- case proplists:get_value(<<"header.x-death">>, P) of
                L when is_list(L) -> L; _ -> [] end]}};
        _ -> false end end,
    Config = fun(Q) -> case catch ra:member_overview(amqqueue:get_pid(Q)) of
        {ok, #{machine := #{config := C}}} -> C; _ -> #{} end end,
    Number = fun(V) when is_integer(V) -> V; (_) -> null end,
    Env = case application:get_env(rabbit, ssl_options) of {ok, O} when is_list(O) -> O; _ -> [] end,
    #{letters => [begin
        {resource, VHost, _, _} = amqqueue:get_name(Q),
        {ok, {_, Ready}, _} = ra:local_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_ready/1),
        Settings = Config(Q),
        #{vhost => VHost, ready => Ready,
          delivery_limit => Number(maps:get(delivery_limit, Settings, null)), ttl => Number(maps:get(msg_ttl, Settings, null)),
          letters => lists:filtermap(fun(P) -> Letter(Q, P) end, lists:seq(1, min(Limit, Ready)))}
      end || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) =:= rabbit_quorum_queue,
             element(4, amqqueue:get_name(Q)) =:= <<"dead_letters">>,
             Only =:= [] orelse lists:member(element(2, amqqueue:get_name(Q)), Only)],
      listeners => [#{protocol => Text(element(3, L)), address => list_to_binary(inet:ntoa(element(5, L))), port => element(6, L)}
                    || L <- rabbit_networking:active_listeners(), element(2, L) =:= node()],
      tls => maps:from_list([{K, list_to_binary(F)} || {K, F} <- Env, lists:member(K, [cacertfile, certfile, keyfile])])}
"""
HEADERS = ("id", "task", "retries", "expires", "origin", "x-last-death-queue")


class Refusal(Exception):
    """A sentence for a person."""


def expression(vhosts: list[str], limit: int, show_arguments: bool) -> str:
    headers = (*HEADERS, "argsrepr", "kwargsrepr") if show_arguments else HEADERS
    return (
        LOOK.replace("VHOSTS", f"[{', '.join(map(rabbitmq_cli.erlang_binary, vhosts))}]")
        .replace("LIMIT", str(limit))
        .replace("BODIES", str(show_arguments).lower())
        .replace("HEADERS", f"[{', '.join(map(rabbitmq_cli.erlang_binary, headers))}]")
    )


def home(deaths: list[dict[str, Any]], last: str | None) -> str | None:
    """The queue that a letter died in: the broker's own word from 4.0 on, before that the first of its deaths, the latest."""
    return last or (deaths[0].get("queue") if deaths else None)


def told(vhost: str, letter: dict[str, Any], show_arguments: bool) -> dict[str, Any]:
    """A letter as a person, or the report, reads it."""
    deaths = letter["deaths"]
    queue = home(deaths, letter["x-last-death-queue"])
    death = next((one for one in deaths if one.get("queue") == queue), {})
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
    """What a task was called with, out of its message's body in base64; the headers say [redacted]. None where it is no JSON."""
    try:
        args, kwargs, _ = json.loads(base64.b64decode(body or ""))
    except (ValueError, TypeError):
        return None, None
    return repr(args), repr(kwargs)


def expired(expires: Any) -> bool:
    """Whether the job's own deadline has passed, so that a worker would throw it away instead of running it."""
    try:
        deadline = datetime.fromisoformat(str(expires))
    except ValueError:
        return False
    return (deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC)) < datetime.now(UTC)


def chosen(message: Message, ids: list[str], task: str, everything: bool) -> bool:
    return everything or message.header("id") in ids or (bool(task) and message.header("task") == task)


def reborn(letter: Message) -> Message:
    """The same job as a new message: its body and its own headers, byte for byte, and nothing of its death."""
    headers = {name: raw for name, raw in letter.headers.items() if name not in HISTORY and not name.startswith(HISTORY_PREFIXES)}
    properties = {name: raw for name, raw in letter.properties.items() if name not in NOT_KEPT}
    return Message(letter.body, properties | {"delivery_mode": PERSISTENT}, headers)


def endpoint(listeners: list[dict[str, Any]]) -> dict[str, Any]:
    """Where this host's broker takes AMQP: unencrypted if it does, since the way never leaves the host."""
    for protocol in ("amqp", "amqp/ssl"):
        for listener in listeners:
            if listener["protocol"] == protocol:
                anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
                return {**listener, "address": anywhere.get(listener["address"], listener["address"])}
    raise Refusal("the broker listens for no AMQP on this host")


def tls_context(listener: dict[str, Any], files: dict[str, str]) -> ssl.SSLContext | None:
    """For a broker that speaks TLS only: of all certificates its own is believed, whatever name that is for."""
    if listener["protocol"] == "amqp":
        return None
    context = ssl.create_default_context(cafile=files["certfile"])
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # this certificate, and not whoever its authority vouches for
    context.check_hostname = False  # the address is one that the broker itself just told
    if "certfile" in files and "keyfile" in files:
        context.load_cert_chain(files["certfile"], files["keyfile"])
    return context


@contextmanager
def alone() -> Iterator[None]:
    """One replay at a time."""
    with open(LOCK, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refusal("Another replay is under way on this broker. Wait until it has ended.") from error
        yield


@contextmanager
def operator(vhosts: list[str]) -> Iterator[str]:
    """The password of a user who may take dead letters and write to every queue, for as long as this lasts."""
    password, salt = secrets.token_urlsafe(32), secrets.token_bytes(4)
    grants = {"user": OPERATOR, "configure": "^$", "write": ".*", "read": f"^{QUEUE}$"}
    definitions = {
        "users": [{"name": OPERATOR, "tags": "", **rabbitmq_cli.password_hash(password, salt)}],
        "permissions": [{"vhost": vhost, **grants} for vhost in vhosts],
    }
    try:
        rabbitmq_cli.load(definitions)
        yield password
    finally:
        rabbitmq_cli.call("delete_user", OPERATOR)


def replay(connection: Connection, vhost: str, depth: int, params: dict[str, Any], result: dict[str, Any]) -> None:
    """Writes into the result what was sent back and what could not be.

    What was not chosen is held until the end, then goes back as it was.
    """
    replayed = 0
    # No further than what stood there at the beginning: a job that dies again meanwhile is a new letter.
    for _ in range(depth):
        if replayed >= params["limit"] or (letter := connection.get(QUEUE)) is None:
            break
        if not chosen(letter, params["ids"], params["task"], params["everything"]):
            continue
        name = letter.header("id")
        if expired(letter.header("expires")):
            why = f"its own deadline passed at {letter.header('expires')}, so that a worker would throw it away"
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
    """A letter that is looked at and put back must stay."""
    for setting, name in (("delivery_limit", "delivery limit"), ("ttl", "message TTL")):
        if queue[setting] is not None:
            raise Refusal(
                f"{queue['vhost']}/{QUEUE} has a {name} of {queue[setting]}, which destroys dead letters. Take dead_letters "
                "out of the policy's pattern in rabbitmq_policies, or run playbooks/rabbitmq.yml if its policy is missing."
            )


def run(params: dict[str, Any], check_mode: bool, result: dict[str, Any]) -> None:
    replaying = params["action"] == "replay"
    if replaying and not (params["ids"] or params["task"] or params["everything"]):
        raise Refusal("Say which letters: dead_letters_ids, dead_letters_task, or dead_letters_all=true.")
    peeks = 0 if replaying else params["limit"]
    seen = rabbitmq_cli.ask(expression(params["vhosts"], peeks, params["show_arguments"]))
    queues = seen["letters"]
    if missing := sorted(set(params["vhosts"]) - {queue["vhost"] for queue in queues}):
        raise Refusal(f"The broker has no virtual host {', '.join(missing)} with dead letters.")
    result["totals"] = {queue["vhost"]: queue["ready"] for queue in queues}
    result["letters"] = [
        told(queue["vhost"], letter, params["show_arguments"]) for queue in queues for letter in queue["letters"]
    ]
    full = [queue for queue in queues if queue["ready"]]
    if not replaying or check_mode:
        return
    if not full:
        with alone():  # one that was killed after its last letter has left its user
            if OPERATOR in rabbitmq_cli.call("list_users").split():
                rabbitmq_cli.call("delete_user", OPERATOR)
        return
    for queue in full:
        refuse_unsafe(queue)
    listener = endpoint(seen["listeners"])
    with alone(), operator([queue["vhost"] for queue in full]) as password:
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
    result: dict[str, Any] = {"changed": False, "totals": {}, "letters": [], "replayed": [], "kept": []}
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
