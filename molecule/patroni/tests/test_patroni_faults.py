"""What the members keep when one fails or its host is lost, and what a run does about it."""

from __future__ import annotations

import subprocess

import pytest
from database_client import Writer, in_place, parts, primary, sql
from deadline import until
from playbook_runner import play

testinfra_hosts = ["ansible://patroni"]
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once, pytest.mark.one_host]

PLAYBOOK = "playbooks/patroni.yml"


@pytest.fixture
def table(host, fleet):
    """An empty table for the writer, on the primary."""
    until("all members are in their place", lambda: in_place(host))
    leading = fleet[primary(host)]
    sql(leading, "SET ROLE news; DROP TABLE IF EXISTS acknowledged; CREATE TABLE acknowledged (number bigint)", "news")


def other(name: str, fleet) -> str:
    return min(set(fleet) - {name})


@pytest.fixture
def writer(host, fleet, fleet_inputs, table) -> Writer:
    """On a standby, so it survives the primary."""
    name = other(primary(host), fleet)
    return Writer(fleet[name], fleet_inputs[name])


def test_a_killed_primary_loses_no_acknowledged_row(host, fleet, writer):
    writer.start(45)
    leading = fleet[primary(host)]
    leading.check_output("kill -9 $(head -1 /var/lib/postgresql/*/main/postmaster.pid)")
    rows, lost, gap = writer.finish()
    print(f"kill -9 of the primary: {rows} acknowledged, {len(lost)} lost, {gap:.1f} s without one")
    assert rows > 100 and not lost and gap < 35
    until("all members are in their place", lambda: in_place(host), 120)


def test_a_switchover_loses_no_acknowledged_row(host, fleet, writer):
    candidate = next(name for name, part in parts(host).items() if part["Role"] == "Sync Standby")
    writer.start(30)
    host.check_output(f"cd / && patronictl -c /etc/patroni/*-main.yml switchover main --force --candidate {candidate}")
    rows, lost, gap = writer.finish()
    print(f"switchover: {rows} acknowledged, {len(lost)} lost, {gap:.1f} s without one")
    assert primary(host) == candidate and rows > 100 and not lost and gap < 20
    until("all members are in their place", lambda: in_place(host), 120)


def test_a_primary_whose_host_is_lost_for_ever_is_replaced(inventory, host, fleet, fleet_inputs, writer, hostname):
    """The others elect a primary, and a blank machine under the same name copies it."""
    leading = primary(host)
    if leading == hostname:
        pytest.skip("the host that runs the test is the primary: the test before it moves it")
    writer.start(60)
    subprocess.run(["podman", "rm", "--force", f"grunnfjell-{leading}"], check=True, capture_output=True)
    rows, lost, gap = writer.finish()
    print(f"loss of the primary's host: {rows} acknowledged, {len(lost)} lost, {gap:.1f} s without one")
    assert not lost and gap < 40
    for playbook in ("molecule/shared/create.yml", "molecule/patroni/prepare.yml", PLAYBOOK):
        run = play(inventory, playbook)
        assert run.returncode == 0, run.output
    until("all members are in their place", lambda: in_place(host), 60)
    again = play(inventory, PLAYBOOK)
    assert again.returncode == 0 and again.changed == {}, again.output
