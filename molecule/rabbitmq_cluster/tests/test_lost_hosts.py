"""Machines that burn, come back, or are added: inventory edits and a run."""

from __future__ import annotations

import pytest
from brokers import QUORUM, Broker, Publisher, check_none_lost, drain
from deadline import until

pytestmark = [pytest.mark.disruptive, pytest.mark.scenario]
MNESIA = "/var/lib/rabbitmq/mnesia"


def members_everywhere(brokers: list[Broker], nodes: list[str]) -> None:
    for broker in brokers:
        view = broker.view()
        assert (view["members"], view["running"]) == (nodes, nodes), broker.name
        for queue in view["queues"]:
            assert sorted(queue["members"]) == nodes, queue


def test_a_burnt_machine_is_replaced_by_a_blank_one_under_its_line(brokers, connect, run, rebuild, nodes) -> None:
    first, lost, _ = brokers
    with connect(first.place) as connection:
        connection.declare("burnt", **QUORUM)
    with Publisher(connect, [lost.place, first.place], "burnt") as publisher:
        until("50 accepted jobs", lambda: len(publisher.accepted) >= 50)
        lost.burn()
        before = len(publisher.accepted)
        until("50 jobs accepted without the machine", lambda: len(publisher.accepted) >= before + 50)
        rebuild()
        done = run()
        assert done.returncode == 0, done.output
    members_everywhere(brokers, nodes)
    check_none_lost(publisher, connect, lost)
    again = run()
    assert again.returncode == 0 and again.changed == {}, again.output


def test_a_forgotten_member_with_its_old_data_is_refused_and_joins_empty(brokers, run, nodes) -> None:
    first, _, back = brokers
    back.host.check_output("systemctl stop rabbitmq-server")
    first.tool("forget_cluster_node", back.node)
    run().assert_refused(f"{back.name} has old data of the cluster, whose members", "have forgotten it")
    back.host.check_output(f"mv {MNESIA} {MNESIA}.old")
    done = run()
    assert done.returncode == 0, done.output
    members_everywhere(brokers, nodes)
    back.host.check_output(f"rm -r {MNESIA}.old")


def test_a_smaller_cluster_is_refused(brokers, run, nodes) -> None:
    run(rabbitmq_cluster_nodes={}).assert_refused("a smaller cluster is not built, because their jobs could be lost")
    assert brokers[0].view()["running"] == nodes


def test_a_single_broker_with_queued_jobs_becomes_three(brokers, connect, run, rebuild, nodes) -> None:
    first, *others = brokers
    for broker in brokers:
        broker.burn()
    rebuild()
    single = run(only=[first], rabbitmq_cluster_nodes={})
    assert single.returncode == 0, single.output
    assert first.tool("eval", "init:get_argument(proto_dist).") == "error"
    with connect(first.place) as connection:
        connection.declare("queued", **QUORUM)
        bodies = [f"job {number}" for number in range(300)]
        assert {connection.publish("queued", body) for body in bodies} == {"ack"}
    done = run()
    assert done.returncode == 0, done.output
    members_everywhere(brokers, nodes)
    with connect(others[0].place) as connection:
        assert sorted(drain(connection, "queued")) == sorted(bodies)
        connection.delete("queued")
    again = run()
    assert again.returncode == 0 and again.changed == {}, again.output
