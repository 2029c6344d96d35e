"""When the virtual address moves, and when it stays, as a client of it sees it."""

from __future__ import annotations

import base64
import re
import subprocess
import time
from pathlib import Path

import pytest
from deadline import until
from playbook_runner import play
from virtual_address import MOVED_WITHIN_S, Client, holders, settle, state

testinfra_hosts = ["ansible://keepalived"]
pytestmark = [pytest.mark.once, pytest.mark.one_host, pytest.mark.disruptive, pytest.mark.scenario]

HERE = Path(__file__).parent
PLAYBOOK = "playbooks/keepalived.yml"
ADDRESS, ROUTER_ID = "10.77.0.75", 45
# Longer than a host that wants the address waits for another one's adverts.
STAYS_S = 8


@pytest.fixture
def members(fleet, inputs):
    return {name: fleet[name] for name in inputs["keepalived_members"]}


@pytest.fixture
def client(authority) -> Client:
    return Client(ADDRESS, authority.context(None))


@pytest.fixture
def pair(members) -> tuple[str, str]:
    """The host with the address, and the one that is ready to take it over."""
    return settle(members, ADDRESS)


def put(host, name: str) -> str:
    content = base64.b64encode((HERE / name).read_bytes()).decode()
    host.check_output(f"echo {content} | base64 -d > /run/{name}")
    return f"/run/{name}"


def assert_moved(client: Client, members, former: str) -> None:
    """Another host answers in time, and the former one no longer has the address."""
    began = time.monotonic()
    successor = client.wait_for_another(former)
    print(f"{successor} answers after {time.monotonic() - began:.1f} s")
    running = {name: member for name, member in members.items() if member is not None}
    assert until("one host has the address", lambda: holders(running, ADDRESS) == [successor], MOVED_WITHIN_S)


def assert_stays(client: Client, host: str) -> None:
    end = time.monotonic() + STAYS_S
    while time.monotonic() < end:
        assert client.server() == host


def test_a_client_is_answered_at_the_address_and_the_server_sees_who_it_is(client, pair):
    status, (server, seen) = client.get("/healthz")
    assert (status, server, seen) == (200, pair[0], "10.77.0.1")


@pytest.mark.parametrize(
    ("fault", "repair"),
    [
        ("systemctl kill --signal=KILL health-server", "systemctl start health-server"),
        ("systemctl kill --signal=STOP health-server", "systemctl kill --signal=CONT health-server"),
        ("echo 503 > /run/health-server", "rm /run/health-server"),
    ],
    ids=["killed", "hangs", "answers 503"],
)
def test_the_address_moves_when_the_web_server_fails_and_stays_when_it_is_back(client, members, pair, fault, repair):
    former, successor = pair
    members[former].check_output(fault)
    try:
        assert_moved(client, members, former)
    finally:
        members[former].check_output(repair)
    until("the former host is ready again", lambda: state(members[former], ADDRESS) == "BACKUP")
    assert_stays(client, successor)


@pytest.mark.parametrize(
    ("fault", "repair"),
    [
        ("systemctl kill --signal=KILL keepalived", "true"),
        ("systemctl stop keepalived", "systemctl start keepalived"),
        (
            "mv /usr/sbin/keepalived /root/ && systemctl kill --signal=KILL keepalived",
            "mv /root/keepalived /usr/sbin/ && systemctl restart keepalived",
        ),
    ],
    ids=["killed", "stopped", "killed for ever"],
)
def test_the_address_moves_when_keepalived_is_killed_or_stopped(client, members, pair, fault, repair):
    former, successor = pair
    members[former].check_output(fault)
    try:
        assert_moved(client, members, former)
    finally:
        members[former].check_output(repair)
    assert settle(members, ADDRESS) == (successor, former)


def test_the_address_moves_when_its_host_is_lost_and_stays_when_the_host_is_back(inventory, client, members, pair):
    former, successor = pair
    subprocess.run(["podman", "kill", f"grunnfjell-{former}"], check=True, capture_output=True)
    try:
        assert_moved(client, {**members, former: None}, former)
    finally:
        run = play(inventory, "molecule/shared/create.yml")
        assert run.returncode == 0, run.output
    assert settle(members, ADDRESS) == (successor, former)
    assert_stays(client, successor)
    run = play(inventory, PLAYBOOK)
    assert run.returncode == 0 and run.changed == {}, run.output


def test_a_host_outside_the_group_cannot_claim_the_address(client, fleet, members, inputs, pair):
    """Its adverts have the highest priority. The peer's adverts prove that the listener hears what the firewall lets in."""
    target = members[pair[0]]
    listener, sender = put(target, "vrrp_packets.py"), put(fleet["outsider"], "vrrp_packets.py")

    def refused() -> int:
        chain = target.check_output("nft list chain inet grunnfjell input")
        return int(re.search(r'packets (\d+) bytes \d+ drop comment "refused"', chain)[1])

    before = refused()
    target.check_output(
        f"systemd-run --quiet --collect --unit=hear --property=StandardOutput=file:/run/heard python3 {listener} hear 6"
    )
    fleet["outsider"].check_output(f"python3 {sender} claim {ADDRESS} {ROUTER_ID} {inputs['keepalived_members'][pair[0]]}")
    until("the listener has ended", lambda: target.run("systemctl is-active hear").stdout.strip() != "active")
    assert refused() >= before + 10, "the adverts did not reach the host"
    assert "10.77.0.73" not in target.check_output("cat /run/heard")
    assert_stays(client, pair[0])
    peer = members[pair[1]]
    peer_listener = put(peer, "vrrp_packets.py")
    assert peer.check_output(f"python3 {peer_listener} hear 3") == inputs["keepalived_members"][pair[0]]


def test_a_run_restores_the_rules_that_pass_connections_on(inventory, client, members, pair):
    members[pair[0]].check_output("nft delete table inet grunnfjell_keepalived")
    assert client.server() == ""
    run = play(inventory, PLAYBOOK)
    assert run.returncode == 0 and set(run.changed) == {pair[0]}, run.output
    assert client.server() == pair[0]


def test_the_status_says_who_has_the_address_and_warns_when_nobody_has_it(inventory, members, pair):
    assert f"{ADDRESS}: on {pair[0]}; also for {pair[1]}" in play(inventory, "playbooks/status.yml").text
    for member in members.values():
        member.check_output("systemctl stop keepalived")
    try:
        text = play(inventory, "playbooks/status.yml").text
    finally:
        for member in members.values():
            member.check_output("systemctl start keepalived")
    assert f"no host has the virtual address {ADDRESS}" in text and f"{pair[0]}: keepalived does not run" in text
