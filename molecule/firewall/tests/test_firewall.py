"""What role firewall promises, by real connections: from host to host, from outside, to the outside."""

from __future__ import annotations

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from reachability import PORTS, TABLE, declared, guarded, reached

testinfra_hosts = ["ansible://all"]


@pytest.mark.disruptive
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


@pytest.mark.disruptive
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


@pytest.mark.disruptive
def test_from_outside_only_what_is_declared_is_open(inputs, listeners):
    def is_open(port: int) -> bool:
        try:
            socket.create_connection((inputs["topology_address"], port), 3).close()
        except OSError:
            return False
        return True

    every = (22, *PORTS)
    with ThreadPoolExecutor() as pool:
        found = {port for port, answered in zip(every, pool.map(is_open, every), strict=True) if answered}
    assert found == ({22} if guarded(inputs) else set(every))


@pytest.mark.disruptive
def test_a_host_reaches_outside_exactly_what_is_declared(host, inputs, controller, outside):
    targets = {(controller, port) for port in PORTS}
    expected = {(controller, port) for port in declared(inputs, {controller})} if guarded(inputs) else targets
    assert reached(host, targets) == expected


def test_what_is_refused_is_counted_and_a_program_is_told_soon(host, inputs):
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
    assert host.run("systemctl list-unit-files 'grunnfjell-firewall*' --no-legend").stdout == ""


def test_the_vendors_file_is_as_shipped(host):
    assert host.check_output("dpkg --verify nftables | grep -w /etc/nftables.conf || true") == ""
