"""What role firewall promises of a trial, of names and of a boot. It hurts the host, and belongs to the scenario's own."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
import pytest
import testinfra
from ways import TABLE, declared, reached

testinfra_hosts = ["ansible://all"]

pytestmark = pytest.mark.disruptive

REPOSITORY = Path(__file__).resolve().parents[3]
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


def converge(request, *arguments: str) -> tuple[int, str]:
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", request.config.option.ansible_inventory]
    environment = os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
    command += ["playbooks/firewall.yml", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


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
    returncode: int
    said: str


@pytest.fixture(scope="module")
def locked_out(hosts, fleet_inputs, request) -> Iterator[LockedOut]:
    # sshd listens at 22; everything else about these administrators is right.
    wrong = [{"name": "machine", "kind": "administrators", "addresses": ["10.77.0.1"], "ports": [2222], "country": "NO"}]
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
        overruled = {"topology_places": wrong, "firewall_trial_seconds": 12}
        yield LockedOut(before, addresses, earlier, *converge(request, "-e", json.dumps(overruled)))


@pytest.mark.once
def test_rules_that_lock_the_controller_out_go_back_by_themselves(host, name, locked_out):
    assert locked_out.returncode != 0
    sentence = "The new rules of the firewall were on trial, and no new connection came in while they were"
    assert locked_out.said.count(sentence) >= len(locked_out.before), locked_out.said
    assert "The former rules are in force again." in locked_out.said
    assert rules_and_files(host) == locked_out.before[name]
    assert addresses_of_names(host) >= locked_out.addresses[name]
    assert not host.file("/run/grunnfjell-firewall/trial").exists


@pytest.mark.once
def test_a_trial_cuts_no_connection_of_before(name, locked_out):
    locked_out.earlier[name].sendall(b"still here\n")
    assert locked_out.earlier[name].recv(64) == b"still here\n"


@pytest.fixture(scope="module")
def put_right(hosts, request) -> str:
    """What a run says after somebody opened a port by hand."""
    for host in hosts.values():
        host.check_output("nft insert rule inet grunnfjell input tcp dport 47002 accept")
    returncode, said = converge(request)
    assert returncode == 0, said
    return said


@pytest.mark.once
def test_a_rule_that_somebody_put_in_by_hand_is_taken_out(host, name, put_right):
    assert re.search(rf"{name} : ok=\d+ changed=1\b", put_right), put_right
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


@pytest.mark.once
def test_a_reboot_keeps_it(host, name, inputs, in_its_scenario):
    before, addresses = rules_and_files(host), addresses_of_names(host)
    # What keeps the container inherits its pipes, and would be waited for.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["podman", "restart", "--time", "30", f"grunnfjell-{name}"], check=True, **quiet)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((inputs["topology_address"], 22), 2) as door:
                if door.recv(8):
                    break
        except OSError:
            time.sleep(0.2)  # between two looks; the deadline ends them
    shown = "systemctl show --property=ActiveEnterTimestampMonotonic --value "
    assert rules_and_files(host) == before
    assert addresses_of_names(host) >= addresses
    assert int(host.check_output(f"{shown} grunnfjell-firewall.service")) < int(host.check_output(f"{shown} ssh.service"))
