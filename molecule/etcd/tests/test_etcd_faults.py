"""What the cluster keeps when a member fails or its host is lost, and what a run does about it."""

from __future__ import annotations

import subprocess
import time

import pytest
from deadline import until
from etcd_client import DATA, command, healthy, members, own_endpoint, put, value
from playbook_runner import play

testinfra_hosts = ["ansible://etcd"]
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once, pytest.mark.one_host]

PLAYBOOK = "playbooks/etcd.yml"


@pytest.fixture
def last(fleet, fleet_inputs):
    """The last member by name, on whose host no test runs: its name, host and inputs."""
    name = max(fleet_inputs)
    return name, fleet[name], fleet_inputs[name]


def test_a_killed_member_comes_back_by_itself_and_the_others_take_writes(host, inputs, last):
    _, lost, lost_inputs = last
    before = lost.check_output("systemctl show etcd --property=MainPID --value")
    lost.check_output("systemctl kill --signal=KILL etcd")
    put(host, inputs, "/grunnfjell-test/killed", "taken")
    until("the member is healthy", lambda: healthy(lost, lost_inputs))
    assert lost.check_output("systemctl show etcd --property=MainPID --value") != before
    assert value(lost, lost_inputs, "/grunnfjell-test/killed") == "taken"


def test_a_run_starts_a_member_that_was_stopped(inventory, last):
    name, stopped, stopped_inputs = last
    stopped.check_output("systemctl stop etcd")
    run = play(inventory, PLAYBOOK)
    assert run.returncode == 0 and set(run.changed) == {name}, run.output
    assert healthy(stopped, stopped_inputs)


def test_no_member_is_restarted_while_another_one_is_down(inventory, hostname, host, inputs, last):
    """The restart would leave one of three. The run ends with a sentence, and the next one completes it."""
    name, down, down_inputs = last
    began = host.check_output("systemctl show etcd --property=ExecMainStartTimestamp --value")
    down.check_output("systemctl mask --now etcd")
    try:
        limited = [name_of for name_of in inputs["etcd_members"] if name_of != name]
        run = play(inventory, PLAYBOOK, "--limit", ",".join(limited), variables={"etcd_quota_backend_bytes": 300000000})
        run.assert_failed("but is not restarted while another member is down")
        assert host.check_output("systemctl show etcd --property=ExecMainStartTimestamp --value") == began
    finally:
        down.check_output("systemctl unmask etcd && systemctl start etcd")
    until("the member is healthy", lambda: healthy(down, down_inputs))
    assert play(inventory, PLAYBOOK).returncode == 0  # with the inventory's value again


def test_a_host_that_is_lost_for_ever_is_replaced_by_a_blank_one_under_the_same_name(inventory, host, inputs, last):
    """The data is kept, the others take writes meanwhile, and the blank host gets all of it."""
    name, _, lost_inputs = last
    put(host, inputs, "/grunnfjell-test/before", "kept")
    former = members(host, inputs)[name]
    subprocess.run(["podman", "rm", "--force", f"grunnfjell-{name}"], check=True, capture_output=True)
    put(host, inputs, "/grunnfjell-test/while", "taken")
    for playbook in ("molecule/shared/create.yml", "molecule/etcd/prepare.yml"):
        run = play(inventory, playbook)
        assert run.returncode == 0, run.output
    began = time.monotonic()
    run = play(inventory, PLAYBOOK)
    assert run.returncode == 0 and set(run.changed) == {name}, run.output
    print(f"replaced within {time.monotonic() - began:.0f} s, the run included")
    known = members(host, inputs)
    assert set(known) == set(inputs["etcd_members"]) and known[name] != former
    new = last[1]
    assert value(new, lost_inputs, "/grunnfjell-test/before") == "kept"
    assert value(new, lost_inputs, "/grunnfjell-test/while") == "taken"
    again = play(inventory, PLAYBOOK)
    assert again.returncode == 0 and again.changed == {}, again.output


def test_a_member_that_lost_its_data_is_admitted_again(inventory, host, inputs, last):
    name, emptied, emptied_inputs = last
    put(host, inputs, "/grunnfjell-test/emptied", "kept")
    emptied.check_output(f"systemctl stop etcd && rm -r {DATA}")
    run = play(inventory, PLAYBOOK, "--limit", name)
    assert run.returncode == 0 and set(run.changed) == {name}, run.output
    assert value(emptied, emptied_inputs, "/grunnfjell-test/emptied") == "kept"


def test_a_host_that_comes_back_with_the_data_of_a_removed_member_is_refused(inventory, host, inputs, last):
    """Its data is old: starting it as a member again could undo what the others agreed on."""
    name, returned, returned_inputs = last
    returned.check_output(f"systemctl stop etcd && cp -a {DATA} {DATA}.old")
    host.check_output(command(own_endpoint(inputs), "member", "remove", members(host, inputs)[name]))
    run = play(inventory, PLAYBOOK)
    run.assert_failed(f"{name} has data of a member that was removed from the cluster")
    returned.check_output(f"systemctl stop etcd && rm -r {DATA} {DATA}.old")
    again = play(inventory, PLAYBOOK)
    assert again.returncode == 0, again.output
    assert healthy(returned, returned_inputs) and name in members(host, inputs)


def test_a_member_that_the_inventory_does_not_have_is_removed(inventory, host, inputs):
    """As after the death of a host that left the inventory."""
    add = command(own_endpoint(inputs), "member", "add", "former", "--peer-urls=https://10.77.0.209:2380")
    # Just after a member's start the others refuse a change for some seconds, as unhealthy.
    until("the cluster to take another member", lambda: host.run(add).rc == 0, 60)
    run = play(inventory, PLAYBOOK)
    assert run.returncode == 0 and sum(run.changed.values()) == 1, run.output
    assert set(members(host, inputs)) == set(inputs["etcd_members"])


def test_all_hosts_that_lose_power_at_once_form_the_same_cluster_again(inventory, fleet, fleet_inputs, host, inputs):
    put(host, inputs, "/grunnfjell-test/power", "kept")
    for member in fleet.values():
        member.check_output("systemctl kill --signal=KILL etcd; systemctl stop etcd")
    run = play(inventory, PLAYBOOK)
    assert run.returncode == 0 and set(run.changed) == set(fleet), run.output
    for name, member in fleet.items():
        assert value(member, fleet_inputs[name], "/grunnfjell-test/power") == "kept"


def test_a_blank_host_that_finds_nobody_does_not_begin_a_second_cluster(inventory, fleet, last):
    name, emptied, _ = last
    for member in fleet.values():
        member.check_output("systemctl stop etcd")
    emptied.check_output(f"mv {DATA} {DATA}.kept")
    try:
        run = play(inventory, PLAYBOOK, "--limit", name)
        run.assert_failed("a second cluster could begin beside an existing one")
        assert emptied.run(f"ls {DATA}/member").rc != 0
    finally:
        emptied.check_output(f"rm -rf {DATA} && mv {DATA}.kept {DATA}")
        for member in fleet.values():
            member.check_output("systemctl start --no-block etcd")
