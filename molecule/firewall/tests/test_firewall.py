"""What role firewall promises, by real connections: from host to host, from outside, to the outside."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import testinfra

testinfra_hosts = ["ansible://all"]

REPOSITORY = Path(__file__).resolve().parents[3]
# No service of the kit listens there.
PORTS = (47001, 47002, 47003)
LISTENER = "grunnfjell-test-listener"
LISTEN = """
import socket, time
each = [socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in {ports}]
time.sleep(1800)
"""
TABLE = "nft list table inet grunnfjell"


def reached(host, targets: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of the addresses and ports that the host can connect to now."""
    tries = [f"(timeout 3 bash -c ': < /dev/tcp/{a}/{p}' 2> /dev/null && echo {a} {p}) &" for a, p in sorted(targets)]
    said = host.check_output("\n".join([*tries, "wait"]))
    return {(address, int(port)) for address, port in (line.split() for line in said.splitlines())}


def guarded(inputs: dict[str, Any]) -> bool:
    return inputs.get("firewall_state") == "present"


def declared(inputs: dict[str, Any], to: set[str]) -> set[int]:
    """The ports of the extra ways to somebody; no other way leads to a port of this test."""
    return {port for way in inputs.get("topology_flows_extra") or [] if way["to"] in to for port in way["ports"]}


@pytest.fixture(scope="module")
def name(host) -> str:
    return host.backend.get_hostname()


@pytest.fixture(scope="module")
def listeners(fleet_inputs, request) -> Iterator[dict[str, Any]]:
    """Every host of the fleet, listening at every port of the test, for IPv4 and IPv6."""
    inventory = request.config.option.ansible_inventory
    hosts = {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in fleet_inputs}
    script = shlex.quote(LISTEN.format(ports=PORTS))
    for each in hosts.values():
        each.run(f"systemctl stop {LISTENER}")
        each.check_output(f"systemd-run --quiet --collect --unit={LISTENER} /usr/bin/python3 -c {script}")
    for each in hosts.values():
        waits = f"ss -Hlnt sport = :{PORTS[-1]} | grep -q ."
        each.check_output(f"for i in $(seq 100); do {waits} && exit 0; sleep 0.1; done; exit 1")
    yield hosts
    for each in hosts.values():
        each.run(f"systemctl stop {LISTENER}")


@pytest.fixture
def outside() -> Iterator[None]:
    """This machine, listening at every port of the test."""
    with ExitStack() as stack:
        for port in PORTS:
            stack.enter_context(socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True))
        yield


@pytest.fixture
def controller(host) -> str:
    """This machine's address, as the host sees it."""
    return host.check_output("echo $SSH_CONNECTION").split()[0]


def test_a_host_reaches_of_another_exactly_what_is_declared(host, name, inputs, fleet_inputs, listeners):
    others = {other: fleet_inputs[other] for other in listeners if other != name}
    targets = {(other["topology_address"], port) for other in others.values() for port in PORTS}
    expected = {
        (other["topology_address"], port)
        for each, other in others.items()
        for port in PORTS
        if port in declared(inputs, {each, other["topology_address"]}) or not (guarded(inputs) or guarded(other))
    }
    assert reached(host, targets) == expected


def test_nobody_comes_in_by_ipv6_either(host, name, inputs, fleet_inputs, listeners):
    """Every interface has an address for its own link, whether somebody thought of IPv6 or not."""
    route = json.loads(host.check_output("ip -j -4 route get 192.0.2.1"))[0]["dev"]
    targets, expected = set(), set()
    for other, its in listeners.items():
        links = json.loads(its.check_output("ip -j -6 addr show scope link"))
        for address in (info["local"] for link in links for info in link["addr_info"] if other != name):
            targets |= {(f"{address}%{route}", port) for port in PORTS}
            if not (guarded(inputs) or guarded(fleet_inputs[other])):
                expected |= {(f"{address}%{route}", port) for port in PORTS}
    if not targets:
        pytest.skip("no host has an IPv6 address")
    assert reached(host, targets) == expected


def test_from_outside_only_what_is_declared_is_open(inputs, listeners):
    address = inputs["topology_address"]
    found = set()
    for port in (22, *PORTS):
        try:
            socket.create_connection((address, port), 2).close()
            found.add(port)
        except OSError:
            pass
    assert found == ({22} if guarded(inputs) else {22, *PORTS})


def test_a_host_reaches_outside_exactly_what_is_declared(host, inputs, controller, outside):
    targets = {(controller, port) for port in PORTS}
    expected = {(controller, port) for port in declared(inputs, {controller})} if guarded(inputs) else targets
    assert reached(host, targets) == expected


def test_what_is_refused_is_counted_and_a_program_is_told_at_once(host, inputs):
    if not guarded(inputs):
        pytest.skip("it has no firewall")
    before = refused_out(host)
    began = time.monotonic()
    told = host.run("bash -c ': < /dev/tcp/198.51.100.1/9'")
    assert told.rc != 0 and time.monotonic() - began < 5, told.stderr
    assert refused_out(host) > before


def refused_out(host) -> int:
    chain = host.check_output("nft list chain inet grunnfjell output")
    return int(re.search(r"counter packets (\d+) bytes \d+ reject", chain)[1])


def test_in_out_and_forward_end_in_a_refusal(host, inputs):
    if not guarded(inputs):
        pytest.skip("it has no firewall")
    table = host.check_output(TABLE)
    for hook in ("input", "output", "forward"):
        assert re.search(rf"type filter hook {hook} priority filter; policy drop;", table)
    assert host.check_output("systemctl is-enabled grunnfjell-firewall.service") == "enabled"
    assert host.check_output("systemctl is-active grunnfjell-firewall.service") == "active"


def test_a_host_that_is_to_have_none_keeps_nothing_of_it(host, inputs):
    if guarded(inputs):
        pytest.skip("it has one")
    assert host.run(TABLE).rc != 0
    assert host.check_output("ls -d /etc/grunnfjell/firewall /usr/local/lib/grunnfjell/firewall.py 2> /dev/null || true") == ""
    assert host.check_output("systemctl list-unit-files 'grunnfjell-firewall*' --no-legend") == ""


def test_the_vendors_file_is_as_shipped(host):
    assert host.check_output("dpkg --verify nftables") == ""


# What follows hurts the host, and belongs to the scenario.


@pytest.fixture
def in_its_scenario(host, inputs) -> None:
    if os.environ.get("MOLECULE_SCENARIO_NAME") != "firewall":
        pytest.skip("locks a host, reboots it, moves a name: for the scenario's own hosts")


def converge(request, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", request.config.option.ansible_inventory]
    command += ["playbooks/firewall.yml", "--limit", name, *arguments]
    environment = os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.once
def test_rules_that_lock_the_controller_out_go_back_by_themselves(host, name, inputs, request, in_its_scenario):
    before = host.check_output("nft -s list table inet grunnfjell")
    files = host.check_output("cat /etc/grunnfjell/firewall/* /var/lib/grunnfjell/firewall/loaded")
    # A connection of before, which the trial must not cut.
    with socket.create_connection((inputs["topology_address"], 22), 5) as earlier:
        earlier.recv(64)
        # sshd listens at 22; everything else about these administrators is right.
        wrong = [{"name": "machine", "kind": "administrators", "addresses": ["10.77.0.1"], "ports": [2222], "country": "NO"}]
        done = converge(request, name, "-e", json.dumps({"topology_places": wrong}))
        assert done.returncode != 0
        said = " ".join((done.stdout + done.stderr).split())
        assert "The new rules of the firewall were on trial, and no new connection came in while they were" in said, said
        assert "The former rules are in force again." in said, said
        earlier.sendall(b"SSH-2.0-grunnfjell\r\n")
        assert earlier.recv(4096), "the connection of before was cut"
    assert host.check_output("nft -s list table inet grunnfjell") == before
    assert host.check_output("cat /etc/grunnfjell/firewall/* /var/lib/grunnfjell/firewall/loaded") == files
    assert not host.file("/run/grunnfjell-firewall/trial").exists


@pytest.mark.once
def test_a_rule_that_somebody_put_in_by_hand_is_taken_out(host, name, request, in_its_scenario):
    host.check_output("nft insert rule inet grunnfjell input tcp dport 47002 accept")
    done = converge(request, name)
    assert done.returncode == 0 and re.search(r"changed=1\b", done.stdout), done.stdout + done.stderr
    assert "47002 accept" not in host.check_output(TABLE)
    assert re.search(r"changed=0\b", converge(request, name).stdout)


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
    before = host.check_output("nft -s list table inet grunnfjell")
    subprocess.run(["podman", "restart", "--time", "30", f"grunnfjell-{name}"], check=True, capture_output=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((inputs["topology_address"], 22), 2) as door:
                if door.recv(8):
                    break
        except OSError:
            time.sleep(0.2)
    shown = "systemctl show --property=ActiveEnterTimestampMonotonic --value "
    assert host.check_output("nft -s list table inet grunnfjell") == before
    assert int(host.check_output(f"{shown} grunnfjell-firewall.service")) < int(host.check_output(f"{shown} ssh.service"))
