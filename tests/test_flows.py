"""The flows follow from the inputs of the inventory, and from nothing else."""

import doctest
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import parse, services
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network import endpoints
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.endpoints import places
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.flows import Flow, flows, of_host
from fleets import Change, changed

SITES = [
    {"name": "operations", "kind": "administrators", "addresses": ["198.51.100.0/24"], "country": "NO"},
    {"name": "newsdesk", "kind": "clients", "addresses": ["203.0.113.0/24"], "country": "NO"},
    {"name": "resolver", "kind": "resolver", "addresses": ["198.51.100.2"], "country": "NO"},
    {"name": "exchange", "kind": "exchange_point", "addresses": ["198.51.100.5"], "country": "NO"},
    {"name": "vault", "kind": "backup", "addresses": ["10.0.0.9"], "ports": [22], "country": "NO", "roles": ["postgresql"]},
]
CLIENT = {
    "application_broker_hosts": ["10.0.0.1"],
    "application_broker_port": 5671,
    "application_database_host": "127.0.0.1",
    "application_database_port": 6432,
    "pgbouncer_listen_port": 6432,
    "pgbouncer_databases": {"*": {"host": "db1", "port": 5432}},
}


def make_host(name: str, address: str, *roles: str, **inputs: object) -> Host:
    applications = ("newsroom",) if "application" in roles else ()
    return Host(name, frozenset(roles), applications, address, inputs={"topology_sites": SITES, **inputs})


# A broker, a database, two clients with PgBouncer, and a host that keeps backups.
HOSTS = {
    host.name: host
    for host in (
        make_host("broker1", "10.0.0.1", "rabbitmq"),
        make_host("db1", "10.0.0.2", "postgresql"),
        make_host("worker1", "10.0.0.3", "application", "celery_worker", "pgbouncer", **CLIENT),
        make_host("web1", "10.0.0.4", "application", "producer", "pgbouncer", **CLIENT, producer_bind="10.0.0.4:8000"),
        make_host("store1", "10.0.0.9"),
    )
}


def fleet(**changes: Change) -> Fleet:
    return Fleet(changed(HOSTS, changes), {})


def fields(flows: Iterable[Flow]) -> set[tuple[str, str, str, str, int]]:
    return {(flow.purpose, flow.source.name, flow.destination.name, flow.protocol, flow.port) for flow in flows}


def of_purpose(*purposes: str, **changes: Change) -> set[tuple[str, str, str, str, int]]:
    return fields(flow for flow in flows(fleet(**changes)) if flow.purpose in purposes)


def test_only_clients_reach_the_services_of_a_fleet() -> None:
    assert of_purpose("amqp", "postgresql", "pgbouncer") == {
        ("amqp", "worker1", "broker1", "tcp", 5671),
        ("amqp", "web1", "broker1", "tcp", 5671),
        ("postgresql", "worker1", "db1", "tcp", 5432),
        ("postgresql", "web1", "db1", "tcp", 5432),
    }


@pytest.mark.parametrize(
    ("database", "flow"),
    [
        ({"host": "10.0.0.2", "port": 5433}, ("postgresql", "worker1", "db1", "tcp", 5433)),
        ({"host": "web1"}, ("pgbouncer", "worker1", "web1", "tcp", 6432)),
    ],
    ids=["past PgBouncer", "a central PgBouncer"],
)
def test_an_application_reaches_the_database_that_it_names(database: dict[str, Any], flow: tuple) -> None:
    inputs = {f"application_database_{key}": value for key, value in database.items()}
    assert flow in fields(flows(fleet(worker1=inputs)))


def test_administrators_reach_every_host_and_clients_the_producers() -> None:
    assert {(destination, port) for _, _, destination, _, port in of_purpose("ssh")} == {(host, 22) for host in HOSTS}
    assert of_purpose("http") == {("http", "newsdesk", "web1", "tcp", 8000)}


def test_a_producer_on_loopback_has_no_clients_outside() -> None:
    assert not of_purpose("http", web1={"producer_bind": "127.0.0.1:8000"})


def test_a_site_is_reached_by_its_protocols_and_ports() -> None:
    assert {flow for flow in of_purpose("resolver", "exchange_point") if flow[1] == "db1"} == {
        ("resolver", "db1", "resolver", "udp", 53),
        ("resolver", "db1", "resolver", "tcp", 53),
        ("exchange_point", "db1", "exchange", "icmp", 0),
    }


def test_a_site_with_the_address_of_a_host_is_that_host() -> None:
    assert of_purpose("backup") == {("backup", "db1", "store1", "tcp", 22)}


def test_an_extra_flow_has_its_destination_and_its_reason() -> None:
    extra = [{"to": "db1", "ports": [5432], "reason": "reports"}, {"to": ["mail.example.net"], "ports": [25], "reason": "mail"}]
    extra_flows = [flow for flow in flows(fleet(web1={"topology_flows_extra": extra})) if flow.purpose == "extra"]
    assert fields(extra_flows) == {("extra", "web1", "db1", "tcp", 5432), ("extra", "web1", "mail.example.net", "tcp", 25)}
    assert {flow.reason for flow in extra_flows} == {"reports", "mail"}


@pytest.mark.parametrize(
    "extra",
    [
        {"to": "db1", "ports": [5432]},
        {"to": "db1", "ports": [], "reason": "x"},
        {"to": "db1", "ports": ["all"], "reason": "x"},
        {"to": "10.0.0.300", "ports": [1], "reason": "x"},
        {"to": ["db1", "10.0.0.300"], "ports": [1], "reason": "x"},
        {"ports": [1], "reason": "x"},
        {"to": "db1", "ports": [1], "reason": "x", "protocol": "sctp"},
        {"to": "db1", "port": 1, "ports": [1], "reason": "x"},
    ],
)
def test_a_wrong_extra_flow_opens_nothing(extra: dict[str, Any]) -> None:
    assert not of_purpose("extra", web1={"topology_flows_extra": [extra]})


def test_an_extra_flow_may_have_many_destinations_but_never_its_source() -> None:
    extra = [{"to": ["db1", "web1", "broker1"], "ports": [80], "reason": "x"}]
    assert of_purpose("extra", web1={"topology_flows_extra": extra}) == {
        ("extra", "web1", "db1", "tcp", 80),
        ("extra", "web1", "broker1", "tcp", 80),
    }


def test_a_program_led_to_a_balancer_on_its_host_may_still_go_to_the_servers_themselves() -> None:
    """Until its next release it does: the firewall changes first."""
    balanced = {
        "haproxy_listeners": [
            {"bind": "127.0.0.1:5671", "servers": {"broker1": "10.0.0.1:5671"}, "check": {"port": 8008}},
            {"bind": "127.0.0.1:5000", "servers": {"db1": "10.0.0.2:5432"}},
        ],
        "application_broker_hosts": ["127.0.0.1"],
        "pgbouncer_databases": {"*": {"host": "127.0.0.1", "port": 5000}},
    }

    web = make_host("web1", "10.0.0.4", "application", "producer", "pgbouncer", "haproxy", **{**CLIENT, **balanced})
    own = [flow for flow in flows(fleet(web1=web)) if flow.source.name == "web1"]
    assert {(flow.user, flow.destination.name, flow.port) for flow in own if flow.port in (5671, 5432, 8008)} == {
        ("haproxy", "broker1", 5671),
        ("haproxy", "broker1", 8008),
        ("haproxy", "db1", 5432),
        ("", "broker1", 5671),
        ("postgres", "db1", 5432),
    }


def test_no_flow_leads_from_a_host_to_itself() -> None:
    inputs = {"application_broker_hosts": ["10.0.0.3"], "application_database_host": "10.0.0.3"}
    assert not [flow for flow in flows(fleet(worker1=inputs)) if flow.source == flow.destination]


def test_every_flow_is_a_flow_of_some_host() -> None:
    all_flows = flows(fleet())
    assert {flow for name in HOSTS for flow in of_host(all_flows, name)} == set(all_flows)
    assert sorted(all_flows) == all_flows


def test_as_data_a_ping_has_no_port() -> None:
    (data,) = (flow.as_data() for flow in of_host(flows(fleet()), "db1") if flow.protocol == "icmp")
    assert data == {
        "purpose": "exchange_point",
        "protocol": "icmp",
        "port": None,
        "source": {"kind": "host", "name": "db1", "addresses": ["10.0.0.2"]},
        "destination": {"kind": "site", "name": "exchange", "addresses": ["198.51.100.5"]},
        "reason": "",
        "user": "",
    }


def test_only_pgbouncers_account_may_use_the_flow_to_postgresql() -> None:
    assert {flow.user for flow in flows(fleet()) if flow.purpose == "postgresql"} == {"postgres"}
    assert {flow.user for flow in flows(fleet()) if flow.purpose == "amqp"} == {""}


def ssh(**changes: Change) -> set[tuple[str, str, int]]:
    return {(source, destination, port) for _, source, destination, _, port in of_purpose("ssh", **changes)}


def test_a_jump_host_reaches_the_others_by_ssh() -> None:
    """Review finding 11: as the hosts see it, or, where only the jump host is in the run, as the inventory declares it."""
    seen = ssh(db1=replace(HOSTS["db1"], measured={"controller": "10.0.0.4"}))
    assert ("web1", "db1", 22) in seen and ("web1", "broker1", 22) not in seen
    declared = ssh(web1={"host_ssh_tcp_forwarding": True})
    assert {flow for flow in declared if flow[0] == "web1"} == {
        ("web1", "broker1", 22), ("web1", "db1", 22), ("web1", "worker1", 22), ("web1", "store1", 22)
    }  # fmt: skip
    assert not [flow for flow in ssh(web1={"host_ssh_tcp_forwarding": False}) if flow[0] == "web1"]
    # The run is started on web1.
    assert ssh(web1=replace(HOSTS["web1"], measured={"controller": "10.0.0.4"})) == declared


def test_administrators_connect_to_the_port_of_ssh() -> None:
    """Review finding 34: the port that the run used, else that of the inventory, unless the site names ports."""
    db1 = replace(HOSTS["db1"], ansible_port=2200)
    web1 = replace(HOSTS["web1"], ansible_port=2200, measured={"ssh_port": 22022})
    assert {("operations", "db1", 2200), ("operations", "web1", 22022), ("operations", "broker1", 22)} <= ssh(db1=db1, web1=web1)
    with_ports = [site | ({"ports": [22]} if site["kind"] == "administrators" else {}) for site in SITES]
    assert ("operations", "db1", 22) in ssh(**{name: {"topology_sites": with_ports} for name in HOSTS})


def test_a_host_name_that_is_not_a_dns_name_is_found() -> None:
    """Review finding 17."""
    hosts = {name: Host(name, frozenset(), (), f"10.0.1.{number}") for number, name in enumerate(("db_1", "Store.1_"), 1)}
    extra = {"topology_flows_extra": [{"to": [*hosts], "ports": [80], "reason": "x"}]}
    extra_flows = [flow for flow in flows(fleet(**hosts, web1=extra)) if flow.purpose == "extra"]
    assert {flow.destination.addresses for flow in extra_flows} == {("10.0.1.1",), ("10.0.1.2",)}
    copies = {"name": "copies", "kind": "backup", "addresses": ["db_1"], "ports": [22], "country": "NO"}
    assert ("backup", "web1", "db_1", "tcp", 22) in of_purpose("backup", **hosts, web1={"topology_sites": [*SITES, copies]})


BALANCED = [
    {"bind": "127.0.0.1:5000", "servers": {"db1": "10.0.0.2:5432", "db2": "[fd00::2]:5432"}, "check": {"port": 8008}},
    {"bind": "127.0.0.1:5001", "servers": {"broker1": "10.0.0.1:5671", "here": "127.0.0.1:9"}},
    "no mapping",
]


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(endpoints).failed == 0


def test_each_entry_of_a_list_may_name_endpoints_to_listen_on_and_connect_to(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = {
        "listens": [{"purpose": "balanced", "each": "balancer_listeners", "endpoints": "bind"}],
        "dials": [
            {"each": "balancer_listeners", "endpoints": "servers"},
            {"each": "balancer_listeners", "hosts": "servers", "port": "check.port", "account": "balancer"},
        ],
    }
    known = {**services(), "balancer": parse("balancer", declared)}
    monkeypatch.setattr("ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.flows.services", lambda: known)
    monkeypatch.setattr("ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.endpoints.services", lambda: known)
    web2 = Host("web2", frozenset({"balancer"}), (), "10.0.0.5", inputs={"balancer_listeners": BALANCED})
    assert {(endpoint.source, endpoint.address, endpoint.port) for endpoint in places(web2, "balancer")} == {
        ("balancer_listeners", "127.0.0.1", 5000),
        ("balancer_listeners", "127.0.0.1", 5001),
    }
    database = {"postgresql_listen_addresses": ["10.0.0.2"], "postgresql_port": 5432}
    outgoing = [flow for flow in flows(fleet(db1=database, web2=web2)) if flow.source.name == "web2"]
    assert fields(outgoing) == {
        ("postgresql", "web2", "db1", "tcp", 5432),
        ("balancer", "web2", "fd00::2", "tcp", 5432),
        ("balancer", "web2", "broker1", "tcp", 5671),
        ("balancer", "web2", "db1", "tcp", 8008),
        ("balancer", "web2", "fd00::2", "tcp", 8008),
    }
    assert {flow.user for flow in outgoing if flow.port == 8008} == {"balancer"}


def test_a_database_and_its_repository_host_reach_each_other_and_nobody_else_does() -> None:
    """WAL goes one way and backups the other, both as PostgreSQL's account."""
    port = {"pgbackrest_tls_server_port": 8432}
    database = make_host("db1", "10.0.0.2", "postgresql", "pgbackrest", pgbackrest_repository_hosts=["store1"], **port)
    store = make_host("store1", "10.0.0.9", "pgbackrest", pgbackrest_database_hosts=["db1"], **port)
    declared = [flow for flow in flows(fleet(db1=database, store1=store)) if flow.purpose == "pgbackrest"]
    assert fields(declared) == {("pgbackrest", "db1", "store1", "tcp", 8432), ("pgbackrest", "store1", "db1", "tcp", 8432)}
    assert {flow.user for flow in declared} == {"postgres"}
