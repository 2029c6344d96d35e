"""What role firewall promises of a trial, of names and of a boot. It hurts the host, and belongs to the scenario's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import paramiko
import pytest
import testinfra
from playing import Played, play
from ways import PORTS, TABLE, declared, reached

testinfra_hosts = ["ansible://all"]

pytestmark = pytest.mark.disruptive

PLAYBOOK = "playbooks/firewall.yml"
# Without counters, without the addresses of names, and without what takes older connections over: a minute after the first rules
# that chain is emptied.
RULES = r"nft -s -t list table inet grunnfjell | sed '/^\tchain older {$/,/^\t}$/d'"
FILES = "/etc/grunnfjell/firewall/* /var/lib/grunnfjell/firewall/loaded"


@pytest.fixture(scope="module")
def in_its_scenario() -> None:
    if os.environ.get("MOLECULE_SCENARIO_NAME") != "firewall":
        pytest.skip("locks hosts, reboots them, moves a name: for the scenario's own hosts")


@pytest.fixture(scope="module")
def hosts(in_its_scenario, fleet_inputs, request) -> dict[str, Any]:
    inventory = request.config.option.ansible_inventory
    return {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in fleet_inputs}


def rules_and_files(host) -> str:
    return host.check_output(f"{RULES}; cat {FILES}")


def addresses_of_names(host) -> set[str]:
    """What a name's server tells changes by itself, and a timer adds to it at any moment; nothing of it goes within a day."""
    sets = json.loads(host.check_output("nft -j list sets inet"))["nftables"]
    return {address for each in sets for address in each.get("set", {}).get("elem", [])}


def key_of(host) -> str:
    return host.ansible.get_variables()["ansible_ssh_private_key_file"]


@dataclass
class LockedOut:
    """A run whose rules let nobody in, with a connection of before to each host."""

    before: dict[str, str]
    addresses: dict[str, set[str]]
    earlier: dict[str, paramiko.Channel]
    run: Played


@pytest.fixture(scope="module")
def locked_out(hosts, fleet_inputs, request) -> Iterator[LockedOut]:
    # Past topology, which refuses what would lock the control machine out: no declared flow reaches the role.
    before = {name: rules_and_files(host) for name, host in hosts.items()}
    addresses = {name: addresses_of_names(host) for name, host in hosts.items()}
    with ExitStack() as stack:
        earlier = {}
        for name, inputs in fleet_inputs.items():
            # Logged in: sshd itself ends a connection that does not log in for long, and remembers where it came from.
            transport = stack.enter_context(paramiko.Transport((inputs["topology_address"], 22)))
            transport.connect(username="root", pkey=paramiko.Ed25519Key.from_private_key_file(key_of(hosts[name])))
            earlier[name] = transport.open_session(timeout=30)
            earlier[name].settimeout(30)
            earlier[name].exec_command("cat")
        overruled = {"firewall_flows": [], "firewall_trial_seconds": 12}
        yield LockedOut(before, addresses, earlier, play(request.config.option.ansible_inventory, PLAYBOOK, variables=overruled))


@pytest.mark.once
def test_rules_that_lock_the_controller_out_go_back_by_themselves(host, name, locked_out):
    run = locked_out.run
    assert run.returncode != 0
    sentence = "The firewall's new rules were on trial, but no new connection could be opened"
    assert run.said.count(sentence) >= len(locked_out.before), run.said
    assert "The former rules are in force again." in run.said
    assert rules_and_files(host) == locked_out.before[name]
    assert addresses_of_names(host) >= locked_out.addresses[name]
    assert not host.file("/run/grunnfjell-firewall/trial").exists


@pytest.mark.once
def test_a_trial_cuts_no_connection_of_before(name, locked_out):
    locked_out.earlier[name].sendall(b"still here\n")
    assert locked_out.earlier[name].recv(64) == b"still here\n"


@pytest.fixture(scope="module")
def put_right(hosts, request) -> Played:
    """The run after somebody opened a port by hand."""
    for host in hosts.values():
        host.check_output("nft insert rule inet grunnfjell input tcp dport 47002 accept")
    run = play(request.config.option.ansible_inventory, PLAYBOOK)
    assert run.returncode == 0, run.printed
    return run


@pytest.mark.once
def test_a_rule_that_somebody_put_in_by_hand_is_taken_out(host, name, put_right):
    assert put_right.changed[name] == 1, put_right.printed
    assert "47002 accept" not in host.check_output(TABLE)


@pytest.mark.once
def test_a_name_leads_to_its_present_address_and_keeps_it_without_a_resolver(host, inputs, controller, outside, in_its_scenario):
    if not declared(inputs, {"reports.internal"}):
        pytest.skip("no way of this host leads to a name")
    hosts, look_up = host.check_output("cat /etc/hosts"), "systemctl start grunnfjell-firewall-names.service"
    assert host.check_output("systemctl is-active grunnfjell-firewall-names.timer") == "active"
    try:
        assert reached(host, {(controller, 47003)}) == set()
        host.check_output("cat > /etc/hosts <<'EOF'\n%s\nEOF", hosts.replace("192.0.2.99", controller))
        host.check_output(look_up)
        assert reached(host, {(controller, 47003)}) == {(controller, 47003)}
        host.check_output("cat > /etc/hosts <<'EOF'\n%s\nEOF", hosts.replace("192.0.2.99 reports.internal", ""))
        host.check_output(look_up)
        assert reached(host, {(controller, 47003)}) == {(controller, 47003)}
    finally:
        host.check_output("cat > /etc/hosts <<'EOF'\n%s\nEOF", hosts)


def reboot(name: str, address: str) -> None:
    """Until its sshd answers again."""
    # What keeps the container inherits its pipes, and would be waited for. A session that stays open holds its shutdown up.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["podman", "restart", "--time", "5", f"grunnfjell-{name}"], check=True, **quiet)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, 22), 2) as door:
                if door.recv(8):
                    return
        except OSError:
            time.sleep(0.2)  # between two looks; the deadline ends them
    pytest.fail(f"{name} did not come back within a minute")


@pytest.mark.once
def test_a_reboot_keeps_it(host, name, inputs, in_its_scenario):
    before, addresses = rules_and_files(host), addresses_of_names(host)
    reboot(name, inputs["topology_address"])
    shown = "systemctl show --property=ActiveEnterTimestampMonotonic --value "
    assert rules_and_files(host) == before
    assert addresses_of_names(host) >= addresses
    assert int(host.check_output(f"{shown} grunnfjell-firewall.service")) < int(host.check_output(f"{shown} ssh.service"))


@pytest.mark.once
def test_a_boot_whose_rules_nft_refuses_lets_administrators_in_and_nobody_else(
    host, name, inputs, controller, outside, request, in_its_scenario
):
    before = rules_and_files(host)
    host.check_output(
        "echo 'add rule inet grunnfjell output meta skuid nobody-of-this-name accept' >> /etc/grunnfjell/firewall/rules.nft"
    )
    reboot(name, inputs["topology_address"])
    assert host.run("systemctl is-failed grunnfjell-firewall.service").stdout.strip() == "failed"
    # Nobody listens there: a host without rules would refuse at once.
    with pytest.raises(TimeoutError):
        socket.create_connection((inputs["topology_address"], PORTS[0]), 3)
    assert reached(host, {(controller, port) for port in PORTS}) == set()
    run = play(request.config.option.ansible_inventory, PLAYBOOK, "--limit", name)
    assert run.returncode == 0, run.printed
    assert rules_and_files(host) == before
    assert host.check_output("systemctl is-active grunnfjell-firewall.service") == "active"
