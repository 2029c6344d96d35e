"""A broker whose place another one has taken: who may connect to it, what is moved where, and what the status report says."""

from __future__ import annotations

import socket
import struct
import time
from collections import deque
from contextlib import nullcontext
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import amqp_wire
from ansible_collections.grunnfjell.platform.plugins.module_utils.amqp_values import AmqpError, short
from ansible_collections.grunnfjell.platform.plugins.module_utils.amqp_wire import Message
from ansible_collections.grunnfjell.platform.plugins.module_utils.broker_successor import (
    holds_jobs,
    left,
    missing_queues,
    place,
    publisher,
)
from ansible_collections.grunnfjell.platform.plugins.module_utils.rabbitmq_objects import Refusal
from ansible_collections.grunnfjell.platform.plugins.modules.rabbitmq_move import Lane, Move, sentence
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.rollout import hosts_with
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.flows import flows
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals.applications import askable_brokers
from test_status import HOSTS as STATUS_HOSTS
from test_status import HostInfo, queue, report_of
from test_status import fleet as answers_of

from lab.drill.faults import moves

NEW = "10.0.0.2:5671"


def broker(name: str, address: str, **inputs: object) -> Host:
    return Host(name, frozenset({"rabbitmq"}), (), address, inputs={"rabbitmq_listeners_ssl": [f"{address}:5671"], **inputs})


def client(name: str, address: str) -> Host:
    inputs = {"application_broker_hosts": ["10.0.0.2"], "application_broker_port": 5671}
    return Host(name, frozenset({"application", "celery_worker"}), ("shop",), address, inputs=inputs)


FLEET = Fleet(
    {
        host.name: host
        for host in (
            broker("broker1", "10.0.0.1", rabbitmq_successor=NEW),
            broker("broker2", "10.0.0.2"),
            broker("broker3", "10.0.0.3"),
            client("worker1", "10.0.0.4"),
        )
    },
    {},
)


def test_clients_reach_the_old_broker_until_they_are_restarted_and_it_reaches_its_successor() -> None:
    found = {(flow.source.name, flow.destination.name, flow.port) for flow in flows(FLEET) if flow.purpose == "amqp"}
    assert found == {("worker1", "broker2", 5671), ("worker1", "broker1", 5671), ("broker1", "broker2", 5671)}


def test_commands_ask_the_broker_that_is_in_use() -> None:
    groups = {"all": ["broker1", "broker2"], "rabbitmq": ["broker1", "broker2"]}
    hostvars = {"broker1": {"topology_roles": {"rabbitmq": "rabbitmq"}, "rabbitmq_successor": NEW}}
    assert hosts_with(groups, hostvars, "rabbitmq") == ["broker2", "broker1"]
    outside = Host(
        "worker1", frozenset({"celery_worker"}), ("shop",), "10.0.0.4", inputs={"application_broker_hosts": ["203.0.113.9"]}
    )
    assert askable_brokers(FLEET, outside) == ["broker2"]


def status(ready: int) -> dict[str, Any]:
    """The report of a fleet whose broker1 was replaced and still holds jobs; it comes first by its name."""
    answers = answers_of()
    answers["broker2"] = answers["broker1"]
    old = dict(answers["broker1"]["sections"]["broker"], node="rabbit@old", consumers=[])
    old["queues"] = [queue("shop", ready=ready), queue("worker@worker1.celery.pidbox", ready=5)]
    answers["broker1"] = {"sections": {"broker": old}}
    hosts = STATUS_HOSTS | {
        "broker1": HostInfo(frozenset({"rabbitmq"}), "", frozenset({"10.0.0.11"}), successor="10.0.0.12:5671"),
        "broker2": HostInfo(frozenset({"rabbitmq"}), "", frozenset({"10.0.0.12"})),
    }
    return report_of(answers, hosts)


@pytest.mark.parametrize(
    ("ready", "words"), [(7, "holds 7 messages: run playbooks/move_broker.yml"), (0, "it is empty: take it out")]
)
def test_the_status_is_that_of_the_broker_in_use_and_names_what_the_old_one_holds(ready: int, words: str) -> None:
    report = status(ready)
    assert [queue["consumers"] for queue in report["queues"]] == [1] and report["drain"]["backlog"] == 0
    assert report["replaced"] == {"broker1": ready}
    (sentence,) = [line for line in report["attention"] if line.startswith("broker1")]
    assert words in sentence


def test_a_delayed_job_keeps_its_routing_key_and_other_jobs_go_to_the_queue_of_the_same_name() -> None:
    assert place("celery_delayed_7", "0.1.shop") == ("celery_delayed_7", "0.1.shop")
    assert place("shop", "anything") == ("", "shop") and place("dead_letters", "") == ("", "dead_letters")


@pytest.mark.parametrize(
    ("name", "moved"),
    [("shop", True), ("dead_letters", True), ("celery_delayed_27", True), ("celeryev.1", False), ("w@h.celery.pidbox", False)],
)
def test_replies_and_remote_control_stay(name: str, moved: bool) -> None:
    assert holds_jobs(name) is moved


def state(**queues: int | None) -> dict[str, Any]:
    listed = [{"vhost": "shop", "name": name, "type": "quorum", "messages": number} for name, number in queues.items()]
    return {"queues": listed, "clients": []}


def test_a_queue_with_messages_that_the_successor_lacks_is_named_and_an_empty_one_is_not() -> None:
    found = missing_queues(state(mail=3, shop=5, old=0)["queues"], {("shop", "shop")}, NEW)
    assert len(found) == 1 and f"shop/mail holds 3 messages, and {NEW} has no queue of this name" in found[0]
    stream = [{"vhost": "shop", "name": "log", "type": "stream", "messages": 1}]
    assert "shop/log is a stream" in missing_queues(stream, {("shop", "log")}, NEW)[0]


def test_a_broker_is_empty_once_every_queue_has_answered_and_nobody_is_connected() -> None:
    assert left(state(shop=0), {}) == []
    assert left(state(shop=None, mail=2), {}) == ["it still holds messages: shop/mail (2), shop/shop (no answer)"]
    connected = state() | {"clients": [{"user": "shop", "vhost": "shop", "address": "10.0.0.4"}] * 2}
    assert left(connected, {"10.0.0.4": "worker1"}) == ["still connected to it: worker1 (shop)"]
    assert left(connected, {}) == ["still connected to it: 10.0.0.4 (shop)"]


def test_jobs_are_published_by_a_user_who_may() -> None:
    users = [
        {"name": "reader", "permissions": [{"vhost": "shop", "write": "^$"}]},
        {"name": "other", "permissions": [{"vhost": "news"}]},
        {"name": "shop", "permissions": [{"vhost": "shop"}]},
    ]
    assert publisher("shop", users, {"reader": "r", "other": "o", "shop": "s"}) == ("shop", "s")
    with pytest.raises(Refusal, match="Nobody in rabbitmq_users may publish in the virtual host 'shop'"):
        publisher("shop", users[:2], {"reader": "r", "other": "o"})


class Fake:
    """A connection that notes what is sent, in its order, in a log that it shares."""

    def __init__(self, log: list[tuple[Any, ...]], jobs: list[Message], broken: bool = False) -> None:
        self.log, self.jobs, self.broken = log, jobs, broken

    def consume(self, queue: str, _prefetch: int, _consumer: str) -> None:
        self.log.append(("consume", queue))

    def pending(self, _seconds: float) -> bool:
        return bool(self.jobs)

    def delivered(self) -> Message:
        return self.jobs.pop(0)

    def publish_all(self, addressed: list[tuple[str, str, Message]]) -> None:
        if self.broken:
            raise AmqpError("the queue refused it")
        self.log += [("publish", exchange, key, message.body) for exchange, key, message in addressed]

    def ack(self, tag: int) -> None:
        self.log.append(("ack", tag))


JOBS = [Message(b"1", tag=1, consumer="shop"), Message(b"2", tag=2, consumer="celery_delayed_3", routing_key="0.1.shop")]


def test_a_job_leaves_the_old_broker_once_the_new_one_has_confirmed_it() -> None:
    log: list[tuple[Any, ...]] = []
    lane = Lane(Fake(log, list(JOBS)), Fake(log, []), ["celery_delayed_3", "shop"])  # type: ignore[arg-type]
    assert lane.move() == {"jobs": 1, "delayed jobs": 1} and not lane.move()
    assert log[2:] == [("publish", "", "shop", b"1"), ("publish", "celery_delayed_3", "0.1.shop", b"2"), ("ack", 1), ("ack", 2)]


def test_a_job_that_the_new_broker_refuses_stays() -> None:
    log: list[tuple[Any, ...]] = []
    lane = Lane(Fake(log, list(JOBS)), Fake(log, [], broken=True), ["shop"])  # type: ignore[arg-type]
    with pytest.raises(AmqpError):
        lane.move()
    assert log == [("consume", "shop")]


@pytest.mark.parametrize(
    ("moved_s", "full_s", "clients", "fails"),
    [
        (130, 130, [], True),  # nothing moves
        (1, 130, [{"address": "10.0.0.4"}], True),  # only what a client still sends
        (1, 1, [{"address": "10.0.0.4"}], False),  # the backlog
        (1, 130, [], False),  # the last of it
    ],
)
def test_it_waits_as_long_as_it_gets_somewhere(moved_s: float, full_s: float, clients: list[dict], fails: bool) -> None:
    params = {"successor": NEW, "names": {}, "patience": 120}
    move = Move(params, {"left": ["it still holds messages: shop/mail (3)"]})
    now = time.monotonic()
    seen = state(mail=3) | {"clients": clients}
    with pytest.raises(Refusal, match="has no queue of this name") if fails else nullcontext():
        move.give_up(seen, now - moved_s, now - full_s)
    move.result["left"] = []
    move.give_up(seen, now - moved_s, now - full_s)


def test_the_end_says_what_was_moved() -> None:
    assert "Moved to x: 2 dead letters, 5 jobs." in sentence({"jobs": 5, "dead letters": 2}, "x")
    assert "Moved to x: nothing." in sentence({}, "x")


def wire() -> tuple[amqp_wire.Connection, socket.socket]:
    """A connection after its handshake, and the broker's end."""
    ours, theirs = socket.socketpair()
    connection = object.__new__(amqp_wire.Connection)
    connection.socket, connection.buffer, connection.published, connection.deliveries = ours, bytearray(), 0, deque()
    return connection, theirs


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, 1, len(payload)) + payload + amqp_wire.FRAME_END


def method(klass: int, number: int, arguments: bytes = b"") -> bytes:
    return frame(amqp_wire.METHOD, struct.pack(">HH", klass, number) + arguments)


def test_a_delivery_says_which_queue_it_is_from_and_its_routing_key() -> None:
    connection, theirs = wire()
    assert not connection.pending(0)
    arguments = short("celery_delayed_3") + struct.pack(">QB", 7, 1) + short("celery_delayed_4") + short("0.1.shop")
    content = frame(amqp_wire.HEADER, struct.pack(">HHQH", 60, 0, 2, 0)) + frame(amqp_wire.BODY, b"[]")
    theirs.sendall((method(60, 60, arguments) + content) * 2)
    assert connection.pending(5)
    message = connection.delivered()
    assert (message.consumer, message.routing_key, message.tag, message.body) == ("celery_delayed_3", "0.1.shop", 7, b"[]")
    # The second one has been received with the first, so the socket has nothing more.
    assert connection.pending(0) and connection.delivered().body == b"[]" and not connection.pending(0)


def test_a_delivery_that_arrives_before_the_next_queue_is_consumed_is_kept() -> None:
    connection, theirs = wire()
    content = frame(amqp_wire.HEADER, struct.pack(">HHQH", 60, 0, 2, 0)) + frame(amqp_wire.BODY, b"[]")
    early = method(60, 60, short("dead_letters") + struct.pack(">QB", 1, 0) + short("") + short("dead_letters")) + content
    started = method(60, 11) + early + method(60, 21, short("shop"))
    theirs.sendall(started)
    connection.consume("shop", 10, "shop")
    assert connection.pending(0) and connection.delivered().consumer == "dead_letters" and not connection.pending(0)


def test_a_queue_that_does_not_exist_costs_the_channel_and_not_the_connection() -> None:
    connection, theirs = wire()
    missing = struct.pack(">H", 404) + short("NOT_FOUND") + b"\0\0\0\0"
    theirs.sendall(
        method(20, 40, missing) + method(20, 11, b"\0\0\0\0") + method(85, 11) + method(50, 11, short("shop") + b"\0" * 8)
    )
    assert not connection.has("mail") and connection.has("shop")
    denied = struct.pack(">H", 403) + short("ACCESS_REFUSED") + b"\0\0\0\0"
    theirs.sendall(method(20, 40, denied))
    with pytest.raises(AmqpError, match="403"):
        connection.has("shop")


def test_the_drill_begins_with_the_old_broker_alone(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "BEFORE", tmp_path / "before")
    fleet = moves.load(moves.REPOSITORY / "inventories/drill-move/hosts.yml")["all"]["children"]["rabbitmq"]["hosts"]
    (old,) = [name for name, line in fleet.items() if "rabbitmq_successor" in line]
    moves.before("inventories/drill-move")
    hosts = moves.load(tmp_path / "before/hosts.yml")["all"]["children"]["rabbitmq"]["hosts"]
    assert list(hosts) == [old] and "rabbitmq_successor" not in hosts[old] and hosts[old]["lab_release"] == "12"
