"""The scan without a network: the report of nmap, what the flows mean, and the difference."""

import json

import pytest
from fleets import end, flow

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
<port protocol="tcp" portid="25"><state state="closed" reason="reset"/></port>
<port protocol="tcp" portid="51611"><state state="open" reason="split-handshake-syn"/></port></ports></host>
<host><address addr="10.77.0.31" addrtype="ipv4"/><ports><port protocol="udp" portid="53"><state state="open|filtered"/></port>
<port protocol="udp" portid="123"><state state="open|filtered"/></port></ports></host>
</nmaprun>"""


BROKER, WORKER = (end(name, address) for name, address in HOSTS.items())
FLOW = Reached("worker1", "broker1", "tcp", 5671)


def site(name: str, *addresses: str) -> dict:
    return end(name, *addresses, kind="site")


def look(declared: set[Reached], udp_listeners: dict[str, set[int]] | None = None) -> set[Reached]:
    return exposure.look(Point("worker1", HOSTS["worker1"]), HOSTS, NO_IPV6, udp_listeners or {}, declared)


def test_a_report_of_nmap_is_read_by_address():
    assert scan.parse(XML) == {
        "10.77.0.11": {("tcp", 22): "open", ("tcp", 25): "closed"},
        "10.77.0.31": {("udp", 53): "open|filtered", ("udp", 123): "open|filtered"},
    }


def test_a_host_that_nmap_gave_up_on_does_not_count_as_closed():
    with pytest.raises(Refusal, match=r"gave up on 10\.77\.0\.11"):
        scan.parse(XML.replace("<host>", '<host timedout="true">', 1))


def test_a_silent_udp_port_counts_as_open_where_a_program_listens():
    ports = {"broker1": scan.parse(XML)["10.77.0.11"], "worker1": scan.parse(XML)["10.77.0.31"]}
    assert scan.reached("outside", ports, {"worker1": {123}}) == {
        Reached("outside", "broker1", "tcp", 22),
        Reached("outside", "worker1", "udp", 123),
    }


def test_a_listener_on_loopback_cannot_be_reached():
    listing = """UNCONN 0 0 127.0.0.1:323 0.0.0.0:*
UNCONN 0 0 [::1]:323 [::]:*
UNCONN 0 0 0.0.0.0:5355 0.0.0.0:*
UNCONN 0 0 [fe80::1]%eth0:546 [::]:*
"""
    assert scan.udp_listeners(listing) == {5355, 546}


def test_a_flow_is_declared_only_for_its_hosts():
    flows = verdict.read([flow(WORKER, BROKER, 5671)])
    assert verdict.expand(flows, POINTS, HOSTS) == {FLOW: "amqp"}


def test_a_site_is_any_point_with_its_addresses():
    everywhere = [
        flow(site("worker1", "10.77.0.1"), BROKER, 22, purpose="ssh"),
        flow(site("office", "10.77.0.0/24"), WORKER, 80, purpose="http"),
    ]
    assert verdict.expand(verdict.read(everywhere), POINTS, HOSTS) == {
        Reached("controller", "broker1", "tcp", 22): "ssh",
        Reached("broker1", "worker1", "tcp", 80): "http",
        Reached("controller", "worker1", "tcp", 80): "http",
        Reached("outside", "worker1", "tcp", 80): "http",
    }


def test_flows_out_of_the_fleet_or_without_a_port_open_nothing():
    flows = [
        flow(WORKER, site("mirror", "192.0.2.1", "mirror.example.org"), 443),
        flow(WORKER, BROKER, None, protocol="icmp"),
    ]
    assert verdict.expand(verdict.read(flows), POINTS, HOSTS) == {}


def test_a_flow_with_two_purposes_names_both_and_each_once():
    flows = [flow(WORKER, BROKER, 5671)] * 2 + [flow(WORKER, BROKER, 5671, "extra")]
    assert list(verdict.expand(verdict.read(flows), POINTS, HOSTS).values()) == ["amqp; extra"]


def test_the_report_has_undeclared_and_missing_flows():
    undeclared, closed = (Reached("worker1", "broker1", "tcp", port) for port in (5672, 22))
    result = Verdict({FLOW: "amqp", closed: "ssh"}, {FLOW, undeclared})
    conditions = {"began": "now", "took_s": 1.0, "scanner": "nmap", "udp_ports": [], "ipv6": {"worker1": ""}, "stranger": "x"}
    data = report.report_data(result, conditions, None)
    assert [flow["port"] for flow in data["undeclared"]] == [5672]
    assert [flow["port"] for flow in data["missing"]] == [22]
    assert {"declared", "open", "undeclared", "missing", "conditions"} == set(data)
    page = report.page(data, result, list(POINTS), list(HOSTS))
    assert "5672 ✗" in page and "(22)" in page and "Flows open but not declared: 1; declared but not open: 1." in page
    assert "not over IPv6 (no address: worker1)" in page


def test_a_scan_that_misses_a_declared_flow_fails():
    """Review finding H7: a scan that saw nothing at all passed."""
    sound = Verdict({FLOW: "amqp"}, {FLOW})
    assert exposure.faults(Verdict({FLOW: "amqp"}, set()), None, "")
    assert exposure.faults(Verdict({}, {FLOW}), None, "")
    assert exposure.faults(sound, None, "tcpdump is missing")
    assert exposure.faults(sound, {"readable": ["a password"]}, "")
    assert not exposure.faults(sound, {"readable": []}, "")


def test_a_udp_port_is_scanned_where_a_program_listens_or_a_flow_names_it(monkeypatch):
    """Review finding H7: a listener on an uncommon UDP port went unseen."""
    commands = []
    monkeypatch.setattr(scan, "run", lambda point, command, targets: commands.append(command) or {})
    udp_flow = Reached("worker1", "broker1", "udp", 40001)
    look({udp_flow}, {"broker1": {40000}})
    (ports,) = (argument for argument in commands[0] if argument.startswith("-p"))
    assert {*map(int, ports.removeprefix("-p").split(","))} == {*scan.UDP_PORTS, 40000, 40001}


def test_only_hosts_of_the_lab_are_scanned():
    assert network_of(["10.77.0.11"]) == "grunnfjell" and network_of(["10.79.0.11"]) == "grunnfjell-inside"
    with pytest.raises(Refusal, match=r"192\.0\.2\.1: only hosts of the lab"):
        network_of(["10.77.0.11", "192.0.2.1"])


def test_all_ports_are_scanned_with_a_timeout():
    command = scan.tcp_command(["10.77.0.11"])
    assert "-p-" in command and "--host-timeout" in command


def test_a_scan_that_misses_a_declared_flow_is_repeated_more_slowly(monkeypatch):
    paces, answers = [], [set(), {("tcp", 22)}, {("tcp", 5671)}]

    def run(point, command, targets):
        if "-sU" in command:
            return {}
        paces.append(int(command[command.index("--min-rate") + 1]))
        return {"broker1": dict.fromkeys(answers[len(paces) - 1], "open")}

    monkeypatch.setattr(scan, "run", run)
    reached = look({FLOW})
    # A port that any of the scans saw is open.
    assert {flow.port for flow in reached} == {22, 5671}
    assert paces == [10_000, 5_000, 2_500]


def test_a_scan_that_saw_every_declared_flow_runs_once(monkeypatch):
    looks = []
    monkeypatch.setattr(
        scan, "run", lambda point, command, targets: looks.append(command) or {"broker1": {("tcp", 5671): "open"}}
    )
    look({FLOW})
    assert len(looks) == 2  # TCP and UDP


def test_no_flow_declares_an_answer_over_ipv6(monkeypatch):
    links = {name: Link("eth0", f"fe80::{number}") for number, name in enumerate(POINTS, start=1)}
    monkeypatch.setattr(
        scan, "run", lambda point, command, targets: {"broker1": {("tcp", 22): "open"}} if "-6" in command else {}
    )
    reached = exposure.look(Point("outside", POINTS["outside"]), HOSTS, links, {}, set())
    assert reached == {Reached("outside", "broker1", "tcp6", 22)}
    assert Verdict({Reached("outside", "broker1", "tcp", 22): "ssh"}, reached).undeclared == [*reached]


def test_a_link_local_address_is_scanned_with_its_device(monkeypatch):
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
def test_a_link_local_address_is_scanned_once_it_is_in_use(ipv6, expected):
    ipv4 = {"family": "inet", "scope": "global", "local": HOSTS["broker1"]}
    links = json.dumps([{"ifname": "lo", "addr_info": []}, {"ifname": "eth0", "addr_info": [ipv4, *ipv6]}])
    assert link_in(links, HOSTS["broker1"]) == expected
