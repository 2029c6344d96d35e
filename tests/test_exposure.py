"""The scan's pure parts: what nmap said, what the flows mean, and the difference."""

from __future__ import annotations

import json

import pytest

from lab.exposure import __main__ as exposure
from lab.exposure import report, scan, verdict
from lab.exposure.points import Link, Point, link_in, network_of
from lab.exposure.scan import Reached
from lab.exposure.verdict import Verdict
from lab.machine import Refusal

HOSTS = {"broker1": "10.77.0.11", "worker1": "10.77.0.31"}
POINTS = HOSTS | {"controller": "10.77.0.1", "outside": "10.77.0.254"}

NO_IPV6 = dict.fromkeys(POINTS, Link("eth0", ""))

XML = """<nmaprun>
<host><address addr="10.77.0.11" addrtype="ipv4"/><address addr="AA:BB:CC:00:00:01" addrtype="mac"/><ports>
<extraports state="filtered" count="65533"/>
<port protocol="tcp" portid="22"><state state="open" reason="syn-ack"/></port>
<port protocol="tcp" portid="25"><state state="closed" reason="reset"/></port></ports></host>
<host><address addr="10.77.0.31" addrtype="ipv4"/><ports><port protocol="udp" portid="53"><state state="open|filtered"/></port>
<port protocol="udp" portid="123"><state state="open|filtered"/></port></ports></host>
</nmaprun>"""


def flow(source: dict, destination: dict, port: int | None = 5671, protocol: str = "tcp", purpose: str = "amqp") -> dict:
    return {"purpose": purpose, "protocol": protocol, "port": port, "source": source, "destination": destination}


def host(name: str) -> dict:
    return {"kind": "host", "name": name, "addresses": [HOSTS[name]]}


def place(name: str, *addresses: str) -> dict:
    return {"kind": "place", "name": name, "addresses": list(addresses)}


def test_a_report_of_nmap_is_read_by_address():
    assert scan.parse(XML) == {
        "10.77.0.11": {("tcp", 22): "open", ("tcp", 25): "closed"},
        "10.77.0.31": {("udp", 53): "open|filtered", ("udp", 123): "open|filtered"},
    }


def test_a_host_that_nmap_gave_up_on_is_no_closed_host():
    with pytest.raises(Refusal, match=r"gave up on 10\.77\.0\.11"):
        scan.parse(XML.replace("<host>", '<host timedout="true">', 1))


def test_a_silent_udp_port_counts_as_open_where_somebody_listens():
    found = {"broker1": scan.parse(XML)["10.77.0.11"], "worker1": scan.parse(XML)["10.77.0.31"]}
    assert scan.reached("outside", found, {"worker1": {123}}) == {
        Reached("outside", "broker1", "tcp", 22),
        Reached("outside", "worker1", "udp", 123),
    }


def test_a_listener_on_loopback_is_reached_by_nobody():
    said = """UNCONN 0 0 127.0.0.1:323 0.0.0.0:*
UNCONN 0 0 [::1]:323 [::]:*
UNCONN 0 0 0.0.0.0:5355 0.0.0.0:*
UNCONN 0 0 [fe80::1]%eth0:546 [::]:*
"""
    assert scan.udp_listeners(said) == {5355, 546}


def test_a_flow_is_declared_for_the_hosts_that_it_names_and_for_nobody_else():
    flows = verdict.read([flow(host("worker1"), host("broker1"))])
    assert verdict.expand(flows, POINTS, HOSTS) == {Reached("worker1", "broker1", "tcp", 5671): "amqp"}


def test_a_place_is_whoever_has_its_address_whatever_it_is_called():
    everywhere = [
        flow(place("worker1", "10.77.0.1"), host("broker1"), 22, purpose="ssh"),
        flow(place("office", "10.77.0.0/24"), host("worker1"), 80, purpose="http"),
    ]
    assert verdict.expand(verdict.read(everywhere), POINTS, HOSTS) == {
        Reached("controller", "broker1", "tcp", 22): "ssh",
        Reached("broker1", "worker1", "tcp", 80): "http",
        Reached("controller", "worker1", "tcp", 80): "http",
        Reached("outside", "worker1", "tcp", 80): "http",
    }


def test_what_leaves_the_fleet_or_has_no_port_opens_nothing():
    flows = [
        flow(host("worker1"), place("mirror", "192.0.2.1", "mirror.example.org"), 443),
        flow(host("worker1"), host("broker1"), None, "icmp"),
    ]
    assert verdict.expand(verdict.read(flows), POINTS, HOSTS) == {}


def test_two_reasons_for_one_way_are_both_told_and_a_repeated_line_once():
    flows = [flow(host("worker1"), host("broker1"))] * 2 + [flow(host("worker1"), host("broker1"), purpose="extra")]
    assert list(verdict.expand(verdict.read(flows), POINTS, HOSTS).values()) == ["amqp; extra"]


def test_the_difference_goes_both_ways_and_reaches_the_report():
    way, open_way, closed_way = (Reached("worker1", "broker1", "tcp", port) for port in (5671, 5672, 22))
    result = Verdict({way: "amqp", closed_way: "ssh"}, {way, open_way})
    conditions = {"began": "now", "took_s": 1.0, "scanner": "nmap", "udp_ports": [], "ipv6": {"worker1": ""}, "stranger": "x"}
    all_of_it = report.report_data(result, conditions, None)
    assert [each["port"] for each in all_of_it["undeclared"]] == [5672]
    assert [each["port"] for each in all_of_it["missing"]] == [22]
    assert {"declared", "open", "undeclared", "missing", "conditions"} == set(all_of_it)
    page = report.page(all_of_it, result, list(POINTS), list(HOSTS))
    assert "5672 ✗" in page and "(22)" in page and "Flows open but not declared: 1; declared but not open: 1." in page
    assert "not over IPv6 (no address: worker1)" in page


def test_a_scan_that_did_not_see_what_is_declared_fails():
    """Review finding H7: a scan that saw nothing at all passed."""
    way = Reached("worker1", "broker1", "tcp", 5671)
    assert exposure.faults(Verdict({way: "amqp"}, set()), None, "")
    assert exposure.faults(Verdict({}, {way}), None, "")
    assert exposure.faults(Verdict({way: "amqp"}, {way}), None, "tcpdump is missing")
    assert exposure.faults(Verdict({way: "amqp"}, {way}), {"readable": ["a password"]}, "")
    assert not exposure.faults(Verdict({way: "amqp"}, {way}), {"readable": []}, "")


def test_a_udp_port_is_scanned_where_anything_listens_or_a_flow_names_it(monkeypatch):
    """Review finding H7: a listener on a UDP port that is not well known was seen by nobody."""
    commands = []
    monkeypatch.setattr(scan, "run", lambda point, command, targets: commands.append(command) or {})
    way = Reached("worker1", "broker1", "udp", 40001)
    exposure.look(Point("worker1", HOSTS["worker1"]), HOSTS, NO_IPV6, {"broker1": {40000}}, {way})
    (ports,) = (argument for argument in commands[0] if argument.startswith("-p"))
    assert {*map(int, ports.removeprefix("-p").split(","))} == {*scan.UDP_PORTS, 40000, 40001}


def test_only_the_labs_own_hosts_are_scanned():
    assert network_of(["10.77.0.11"]) == "grunnfjell" and network_of(["10.79.0.11"]) == "grunnfjell-inside"
    with pytest.raises(Refusal, match=r"192\.0\.2\.1: only hosts of the lab"):
        network_of(["10.77.0.11", "192.0.2.1"])


def test_all_ports_are_scanned_without_waiting_for_ever():
    command = scan.tcp_command(["10.77.0.11"])
    assert "-p-" in command and "--host-timeout" in command


def test_a_scan_that_overlooked_what_is_declared_is_done_anew_and_slower(monkeypatch):
    paces, answers = [], [set(), {("tcp", 22)}, {("tcp", 5671)}]

    def run(point, command, targets):
        if "-sU" in command:
            return {}
        paces.append(int(command[command.index("--min-rate") + 1]))
        return {"broker1": dict.fromkeys(answers[len(paces) - 1], "open")}

    monkeypatch.setattr(scan, "run", run)
    found = exposure.look(Point("worker1", HOSTS["worker1"]), HOSTS, NO_IPV6, {}, {Reached("worker1", "broker1", "tcp", 5671)})
    # What was seen once is open, whichever look saw it.
    assert {way.port for way in found} == {22, 5671}
    assert paces == [10_000, 5_000, 2_500]


def test_a_scan_that_saw_what_is_declared_is_done_once(monkeypatch):
    looks = []
    monkeypatch.setattr(
        scan, "run", lambda point, command, targets: looks.append(command) or {"broker1": {("tcp", 5671): "open"}}
    )
    exposure.look(Point("worker1", HOSTS["worker1"]), HOSTS, NO_IPV6, {}, {Reached("worker1", "broker1", "tcp", 5671)})
    assert len(looks) == 2  # TCP and UDP


def test_what_answers_by_ipv6_is_declared_by_nothing(monkeypatch):
    links = {name: Link("eth0", f"fe80::{number}") for number, name in enumerate(POINTS, start=1)}
    monkeypatch.setattr(
        scan, "run", lambda point, command, targets: {"broker1": {("tcp", 22): "open"}} if "-6" in command else {}
    )
    found = exposure.look(Point("outside", POINTS["outside"]), HOSTS, links, {}, set())
    assert found == {Reached("outside", "broker1", "tcp6", 22)}
    assert Verdict({Reached("outside", "broker1", "tcp", 22): "ssh"}, found).undeclared == [*found]


def test_an_address_of_the_link_goes_with_the_device_it_is_reached_by(monkeypatch):
    commands = []
    monkeypatch.setattr(scan, "run", lambda point, command, targets: commands.append((command, targets)) or {})
    links = dict.fromkeys(POINTS, Link("podman1", "")) | {
        "broker1": Link("eth0", "fe80::1"),
        "controller": Link("podman1", "fe80::3"),
    }
    exposure.look_by_ipv6(Point("controller", POINTS["controller"]), HOSTS, links, {}, scan.UDP_PORTS)
    assert len(commands) == 2  # TCP and UDP
    for command, targets in commands:
        assert command[-1] == "fe80::1%podman1" and "-6" in command and targets == {"fe80::1": "broker1"}


@pytest.mark.parametrize(
    ("ipv6", "expected"),
    [
        ([{"family": "inet6", "scope": "link", "local": "fe80::1"}], Link("eth0", "fe80::1")),
        ([{"family": "inet6", "scope": "link", "local": "fe80::1", "tentative": True}], None),
        ([], Link("eth0", "")),
    ],
)
def test_an_address_is_scanned_when_the_machine_uses_it(ipv6, expected):
    mine = {"family": "inet", "scope": "global", "local": HOSTS["broker1"]}
    said = json.dumps([{"ifname": "lo", "addr_info": []}, {"ifname": "eth0", "addr_info": [mine, *ipv6]}])
    assert link_in(said, HOSTS["broker1"]) == expected
