"""What a broker that is being replaced holds, what of it goes where on its successor, and the sentences about the rest."""

from __future__ import annotations

import re
from typing import Any

from . import rabbitmq_cli
from .broker_operator import LISTENERS, TLS_FILES
from .queue_faults import is_work
from .rabbitmq_objects import DEAD_LETTERS, PERMITTED, Refusal
from .rabbitmq_status import FACTS

OPERATOR = "grunnfjell-move-broker"
# Celery's steps of a delayed delivery: queue and exchange have the same name.
DELAYED = re.compile(r"celery_delayed_\d+$")
DEFAULT_EXCHANGE = "amq.default"

# Clients before queues, so what a client published before it left is counted. A quorum queue's leader answers once a majority
# agrees.
LOOK = (
    FACTS
    + """
    Client = fun(P) -> case catch rabbit_networking:connection_info(P, [user, vhost, peer_host]) of
        [{user, U}, {vhost, V}, {peer_host, H}] when is_binary(U) ->
            {true, #{user => U, vhost => V, address => case catch inet:ntoa(H) of
                A when is_list(A) -> list_to_binary(A); _ -> iolist_to_binary(io_lib:format("~s", [H])) end}};
        _ -> false end end,
    Total = fun(Q) -> case amqqueue:get_type(Q) of
        rabbit_quorum_queue ->
            case catch ra:consistent_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1, 20000) of
                {ok, V, _} -> V; _ -> null end;
        _ -> case catch rabbit_amqqueue:info(Q, [messages]) of [{_, V}] -> V; _ -> null end end end,
    Clients = lists:filtermap(Client, rabbit_networking:local_connections()),
    Down = [(Facts(Q))#{messages => null} || V <- rabbit_vhost:list_names(), Q <- rabbit_amqqueue:list_down(V)],
    #{clients => Clients, queues => [(Facts(Q))#{messages => Total(Q)} || Q <- rabbit_amqqueue:list()] ++ Down,
      listeners => LISTENERS, tls => TLS_FILES}
"""
)


def look() -> dict[str, Any]:
    expression = LOOK.replace("LISTENERS", LISTENERS).replace("TLS_FILES", TLS_FILES)
    state = rabbitmq_cli.ask(expression)
    state["clients"] = [client for client in state["clients"] if not client["user"].startswith(OPERATOR)]
    # Replies, events and remote control are of the programs that are connected to this broker.
    state["queues"] = [queue for queue in state["queues"] if not queue["temporary"] and holds_jobs(queue["name"])]
    return state


def holds_jobs(name: str) -> bool:
    return is_work(name) or name == DEAD_LETTERS or bool(DELAYED.match(name))


def kind_of(name: str) -> str:
    if name == DEAD_LETTERS:
        return "dead letters"
    return "delayed jobs" if DELAYED.match(name) else "jobs"


def place(queue: str, routing_key: str) -> tuple[str, str]:
    """Exchange and routing key on the successor.

    A delayed job's routing key holds its queue and the steps that are left; its present step begins again.
    """
    return (queue, routing_key) if DELAYED.match(queue) else ("", queue)


def publisher(vhost: str, users: list[dict[str, Any]], passwords: dict[str, str]) -> tuple[str, str]:
    """A user who may publish in the virtual host, and the password."""
    for user in users:
        for permission in user.get("permissions") or []:
            pattern = PERMITTED if permission.get("write") is None else permission["write"]
            if permission["vhost"] == vhost and re.search(pattern, DEFAULT_EXCHANGE) and passwords.get(user["name"]):
                return user["name"], passwords[user["name"]]
    raise Refusal(
        f"Nobody in rabbitmq_users may publish in the virtual host '{vhost}', whose jobs have to be moved. Give a user "
        f"permissions there."
    )


def missing_queues(queues: list[dict[str, Any]], existing: set[tuple[str, str]], successor: str) -> list[str]:
    """A sentence for each queue whose messages have no place on the successor.  existing: virtual hosts and names there."""
    sentences = []
    for queue in queues:
        place = f"{queue['vhost']}/{queue['name']}"
        if not queue["messages"]:
            continue
        if queue["type"] == "stream":
            sentences.append(
                f"{place} is a stream, which keeps what was read, and is not moved. Copy what you need, and delete it."
            )
        elif (queue["vhost"], queue["name"]) not in existing:
            sentences.append(
                f"{place} holds {queue['messages']} messages, and {successor} has no queue of this name. Start a worker that "
                f"consumes it there, or delete the queue here if nobody needs them."
            )
    return sentences


def left(state: dict[str, Any], names: dict[str, str]) -> list[str]:
    """What keeps the broker from being empty; an empty list once it is.  names: address to host."""
    full = [f"{queue['vhost']}/{queue['name']} ({number(queue)})" for queue in state["queues"] if queue["messages"] != 0]
    who = sorted({f"{names.get(client['address'], client['address'])} ({client['user']})" for client in state["clients"]})
    return [
        *([f"it still holds messages: {', '.join(sorted(full))}"] if full else []),
        *([f"still connected to it: {', '.join(who)}"] if who else []),
    ]


def held(state: dict[str, Any]) -> int:
    return sum(queue["messages"] or 0 for queue in state["queues"])


def number(queue: dict[str, Any]) -> str:
    return "no answer" if queue["messages"] is None else str(queue["messages"])
