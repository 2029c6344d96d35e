"""What the members keep when one fails or its host is lost, and what a run does about it."""

from __future__ import annotations

import subprocess
import time

import pytest
from database_client import CTL, sql
from deadline import until
from playbook_runner import play

testinfra_hosts = ["ansible://patroni"]
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once, pytest.mark.one_host]

PLAYBOOK = "playbooks/patroni.yml"


def test_a_killed_primary_loses_no_acknowledged_row(host, cluster, writer):
    leading, standby = cluster.primary(), cluster.standbys()[0]
    client = writer(standby)
    client.start(45)
    cluster.kill_server(leading)
    client.finish("kill -9 of the primary", longest=35)
    cluster.wait_in_place()


def test_a_switchover_moves_the_clients_of_haproxy_to_the_new_primary(host, cluster, writer):
    former, candidate = cluster.primary(), cluster.standbys()[0]
    client = writer(former)
    client.start(40, through_haproxy=True)
    host.check_output(f"{CTL} switchover main --force --candidate {candidate}")
    client.finish("switchover, client through HAProxy", longest=20)
    assert cluster.primary() == candidate
    cluster.wait_in_place()


def test_a_killed_standby_does_not_stop_the_writes(host, cluster, writer):
    leading, synchronous = cluster.primary(), cluster.standbys()[0]
    client = writer(leading)
    client.start(45)
    cluster.hosts[synchronous].check_output(f"systemctl kill --signal=KILL {cluster.unit(synchronous)}")
    client.finish("kill -9 of the synchronous standby and its Patroni", longest=35)
    cluster.wait_in_place()


def test_a_primary_whose_host_is_lost_for_ever_is_replaced(inventory, host, cluster, writer):
    """The others elect a primary without help, and a blank machine under the same name copies it."""
    leading, standby = cluster.primary(), cluster.standbys()[0]
    client = writer(standby)
    client.start(60)
    subprocess.run(["podman", "rm", "--force", "--time", "0", f"grunnfjell-{leading}"], check=True, capture_output=True)
    client.finish("loss of the primary's host", longest=45)
    for playbook in ("molecule/shared/create.yml", "molecule/patroni/prepare.yml"):
        run = play(inventory, playbook)
        assert run.returncode == 0, run.output
    began = time.monotonic()
    run = play(inventory, PLAYBOOK)
    assert run.returncode == 0 and set(run.changed) == {leading}, run.output
    print(f"{leading} replaced by a run of {time.monotonic() - began:.0f} s")
    cluster.wait_in_place()
    again = play(inventory, PLAYBOOK)
    assert again.returncode == 0 and again.changed == {}, again.output


def test_without_a_majority_of_etcd_writes_go_on_and_nobody_is_elected(inventory, host, cluster, writer):
    """failsafe_mode: the primary stays while every member answers it. No run changes anything meanwhile."""
    leading = cluster.primary()
    timeline = sql(cluster.hosts[leading], "SELECT timeline_id FROM pg_control_checkpoint()")
    stopped = [name for name in cluster.hosts if name != leading]
    client = writer(leading)
    client.start(75)
    began = cluster.hosts[leading].check_output("date +@%s")
    for name in stopped:
        cluster.hosts[name].check_output("systemctl stop etcd")
    log = f"journalctl --quiet --since {began} --unit {cluster.unit(leading)} | grep 'failsafe mode is enabled'"
    try:
        until("the primary goes on without etcd", lambda: cluster.hosts[leading].run(log).rc == 0)
        run = play(inventory, PLAYBOOK)
        run.assert_refused("does not reach etcd, so nothing is changed")
        client.finish("two of three members of etcd stopped", longest=20)
        assert sql(cluster.hosts[leading], "SELECT pg_is_in_recovery()") == "f"
    finally:
        for name in stopped:
            cluster.hosts[name].check_output("systemctl start --no-block etcd")
    cluster.wait_in_place()
    assert cluster.primary() == leading
    assert sql(cluster.hosts[leading], "SELECT timeline_id FROM pg_control_checkpoint()") == timeline
    again = play(inventory, PLAYBOOK)
    assert again.returncode == 0 and again.changed == {}, again.output
