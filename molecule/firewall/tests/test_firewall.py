"""What role firewall promises, tested with real connections: between hosts, from outside and to the outside."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from host_services import carries
from reachability import PORTS, TABLE, declared, guarded, reached

testinfra_hosts = ["ansible://all"]


def has_firewall(variables: Mapping[str, Any]) -> bool:
    return carries("firewall")(variables) and variables.get("firewall_state", "present") == "present"


# A named function alone would be decorated by the mark.
GUARDED = pytest.mark.only_on(lambda variables: has_firewall(variables))


@pytest.mark.disruptive
def test_a_host_reaches_exactly_the_declared_ports_of_another(host, hostname, inputs, fleet_inputs, listeners):
    others = {other: fleet_inputs[other] for other in listeners if other != hostname}
    targets = {(other["topology_address"], port) for other in others.values() for port in PORTS}
    expected = {
        (other["topology_address"], port)
        for name, other in others.items()
        for port in PORTS
        if port in declared(inputs, {name, other["topology_address"]}) or not (guarded(inputs) or guarded(other))
    }
    assert reached(host, targets) == expected


@pytest.mark.disruptive
def test_undeclared_ports_are_closed_over_ipv6_too(host, hostname, inputs, fleet_inputs, listeners):
    """Every interface has a link-local address, configured or not."""
    route = json.loads(host.check_output("ip -j -4 route get 192.0.2.1"))[0]["dev"]
    targets, expected = set(), set()
    for other, listener in listeners.items():
        links = json.loads(listener.check_output("ip -j -6 addr show scope link"))
        for address in (info["local"] for link in links for info in link["addr_info"] if other != hostname):
            targets |= {(f"{address}%{route}", port) for port in PORTS}
            if not (guarded(inputs) or guarded(fleet_inputs[other])):
                expected |= {(f"{address}%{route}", port) for port in PORTS}
    if not targets:
        pytest.skip("no host has an IPv6 address")
    assert reached(host, targets) == expected


@pytest.mark.disruptive
def test_only_declared_ports_are_open_from_outside(inputs, listeners):
    def is_open(port: int) -> bool:
        try:
            socket.create_connection((inputs["topology_address"], port), 3).close()
        except OSError:
            return False
        return True

    ports = (22, *PORTS)
    with ThreadPoolExecutor() as pool:
        open_ports = {port for port, answered in zip(ports, pool.map(is_open, ports), strict=True) if answered}
    assert open_ports == ({22} if guarded(inputs) else set(ports))


@pytest.mark.disruptive
def test_a_host_reaches_exactly_what_is_declared_outside_the_fleet(host, inputs, controller, outside):
    targets = {(controller, port) for port in PORTS}
    expected = {(controller, port) for port in declared(inputs, {controller})} if guarded(inputs) else targets
    assert reached(host, targets) == expected


@GUARDED
def test_refused_connections_are_counted_and_fail_at_once(host, inputs):
    before = refused_out(host)
    began = time.monotonic()
    result = host.run("bash -c ': < /dev/tcp/198.51.100.1/9'")
    assert result.rc != 0 and time.monotonic() - began < 5, result.stderr
    assert refused_out(host) > before


def refused_out(host) -> int:
    chain = host.check_output("nft list chain inet grunnfjell output")
    return int(re.search(r"counter packets (\d+) bytes \d+ reject", chain)[1])


@GUARDED
def test_input_output_and_forward_drop_by_default(host, inputs):
    table = host.check_output(TABLE)
    for hook in ("input", "output", "forward"):
        assert re.search(rf"type filter hook {hook} priority filter; policy drop;", table)
    assert host.check_output("systemctl is-enabled grunnfjell-firewall.service") == "enabled"
    assert host.check_output("systemctl is-active grunnfjell-firewall.service") == "active"


@pytest.mark.only_on(lambda variables: not has_firewall(variables))
def test_a_host_without_a_firewall_keeps_nothing_of_one(host, inputs):
    assert host.run(TABLE).rc != 0
    assert host.check_output("ls -d /etc/grunnfjell/firewall /usr/local/lib/grunnfjell/firewall.py 2> /dev/null || true") == ""
    assert host.run("systemctl list-unit-files 'grunnfjell-firewall*' --no-legend").stdout == ""


def test_the_vendor_s_file_is_as_shipped(host):
    assert host.check_output("dpkg --verify nftables | grep -w /etc/nftables.conf || true") == ""
