"""Three brokers hold every accepted job three times: membership, replicas, TLS between members, restarts in turns."""

from __future__ import annotations

import math
import socket
import ssl
from collections import Counter

import pytest
from brokers import QUORUM, Broker, Publisher, check_none_lost
from deadline import until

pytestmark = [pytest.mark.scenario]


def test_every_member_believes_in_the_same_running_members(brokers: list[Broker], nodes: list[str]) -> None:
    for broker in brokers:
        view = broker.view()
        assert (view["members"], view["running"]) == (nodes, nodes), broker.name


def test_every_quorum_queue_has_a_replica_on_every_member(brokers: list[Broker], nodes: list[str]) -> None:
    queues = brokers[0].view()["queues"]
    assert queues
    for queue in queues:
        assert sorted(queue["members"]) == nodes, queue


def test_members_talk_tls_notice_a_lost_one_soon_and_stop_in_a_minority(brokers: list[Broker], fleet_inputs) -> None:
    for broker in brokers:
        asked = broker.tool("eval", "{init:get_argument(proto_dist), net_kernel:get_net_ticktime()}.")
        assert asked == f'{{{{ok,[["inet_tls"]]}},{fleet_inputs[broker.name]["rabbitmq_net_ticktime"]}}}', asked
        assert broker.tool("eval", "application:get_env(rabbit, cluster_partition_handling).") == "{ok,pause_minority}"


def test_a_program_without_a_certificate_of_the_fleet_cannot_join(brokers: list[Broker], authority) -> None:
    place = (brokers[0].place[0], 25672)
    context, name = authority.context(None), brokers[0].node.split("@")[1]
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(place, timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=name) as tls,
    ):
        assert tls.recv(1), "closed without an alert"
    with socket.create_connection(place, timeout=10) as raw:
        raw.sendall(b"\0\x01n")
        assert raw.recv(64)[:1] in (b"", b"\x15"), "something other than TLS answers"


@pytest.mark.disruptive
def test_new_queues_are_balanced_by_a_run_and_the_next_run_changes_nothing(brokers, connect, run) -> None:
    with connect(brokers[0].place) as connection:
        for number in range(7):
            connection.declare(f"balance-{number}", **QUORUM)
    first, second = run(), run()
    assert first.returncode == 0, first.output
    leaders = Counter(queue["leader"] for queue in brokers[0].view()["queues"])
    assert max(leaders.values()) <= math.ceil(sum(leaders.values()) / len(brokers)), leaders
    assert second.returncode == 0 and second.changed == {}, second.output
    with connect(brokers[0].place) as connection:
        for number in range(7):
            connection.delete(f"balance-{number}")


@pytest.mark.disruptive
def test_no_accepted_job_is_lost_when_the_leader_s_broker_is_killed(brokers, connect, nodes) -> None:
    with connect(brokers[0].place) as connection:
        connection.declare("killed", **QUORUM)
    leader = next(queue["leader"] for queue in brokers[0].view()["queues"] if queue["name"] == "killed")
    (victim,) = [broker for broker in brokers if broker.node == leader]
    places = [victim.place, *(broker.place for broker in brokers if broker is not victim)]
    with Publisher(connect, places, "killed") as publisher:
        until("50 accepted jobs", lambda: len(publisher.accepted) >= 50)
        victim.kill()
        before = len(publisher.accepted)
        until("50 jobs accepted after the kill", lambda: len(publisher.accepted) >= before + 50)
    for broker in brokers:
        until(f"three members as {broker.name} sees them", lambda broker=broker: broker.view()["running"] == nodes, 180)
    check_none_lost(publisher, connect, brokers[0])


@pytest.mark.disruptive
def test_a_changed_setting_restarts_one_member_after_the_other_under_load(brokers, connect, run, nodes) -> None:
    with connect(brokers[0].place) as connection:
        connection.declare("rolling", **QUORUM)
    with Publisher(connect, [broker.place for broker in brokers], "rolling") as publisher:
        done = run(rabbitmq_heartbeat=21)
        assert done.returncode == 0, done.output
        for broker in brokers:
            assert broker.tool("eval", "application:get_env(rabbit, heartbeat).") == "{ok,21}"
        back = run()
        assert back.returncode == 0, back.output
    starts = [broker.host.check_output("systemctl show -P ActiveEnterTimestampMonotonic rabbitmq-server") for broker in brokers]
    assert len(set(starts)) == len(brokers)
    assert brokers[0].view()["running"] == nodes
    check_none_lost(publisher, connect, brokers[0])
