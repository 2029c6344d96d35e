"""Who may talk to whom follows from the inventory's inputs, and from nothing else."""

import doctest
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import parse, services
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network import endpoints
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.endpoints import places
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.flows import Flow, flows, of_host

PLACES = [
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


def fleet(places: list[dict[str, Any]] = PLACES, **changes: dict[str, Any]) -> Fleet:
    """Broker, database, two clients with a PgBouncer beside them, a host that keeps backups."""
    hosts = {
        "broker1": Host("broker1", frozenset({"rabbitmq"}), (), "10.0.0.1"),
        "db1": Host("db1", frozenset({"postgresql"}), (), "10.0.0.2"),
        "worker1": Host(
            "worker1", frozenset({"application", "celery_worker", "pgbouncer"}), ("newsroom",), "10.0.0.3", inputs=dict(CLIENT)
        ),
        "web1": Host(
            "web1",
            frozenset({"application", "producer", "pgbouncer"}),
            ("newsroom",),
            "10.0.0.4",
            inputs=CLIENT | {"producer_bind": "10.0.0.4:8000"},
        ),
        "store1": Host("store1", frozenset(), (), "10.0.0.9"),
    }
    for name, one in hosts.items():
        one.inputs.update({"topology_places": places} | changes.get(name, {}))
    return Fleet(hosts, {})


def ways(found: list[Flow]) -> set[tuple[str, str, str, str, int]]:
    return {(flow.purpose, flow.source.name, flow.destination.name, flow.protocol, flow.port) for flow in found}


def inside(found: list[Flow]) -> set[tuple[str, str, str, str, int]]:
    return {way for way in ways(found) if way[0] in ("amqp", "postgresql", "pgbouncer")}


def test_the_services_of_a_fleet_are_reached_by_their_clients_alone() -> None:
    assert inside(flows(fleet())) == {
        ("amqp", "worker1", "broker1", "tcp", 5671),
        ("amqp", "web1", "broker1", "tcp", 5671),
        ("postgresql", "worker1", "db1", "tcp", 5432),
        ("postgresql", "web1", "db1", "tcp", 5432),
    }


def test_an_application_past_its_bouncer_is_a_way_to_postgresql() -> None:
    found = flows(fleet(worker1={"application_database_host": "10.0.0.2", "application_database_port": 5433}))
    assert ("postgresql", "worker1", "db1", "tcp", 5433) in ways(found)


def test_a_central_bouncer_is_reached_by_its_clients() -> None:
    found = flows(fleet(worker1={"application_database_host": "web1"}))
    assert ("pgbouncer", "worker1", "web1", "tcp", 6432) in ways(found)


def test_administrators_reach_every_host_and_clients_the_producers() -> None:
    found = ways(flows(fleet()))
    assert {(way[2], way[4]) for way in found if way[0] == "ssh"} == {
        (host, 22) for host in ("broker1", "db1", "worker1", "web1", "store1")
    }
    assert {way for way in found if way[0] == "http"} == {("http", "newsdesk", "web1", "tcp", 8000)}


def test_a_producer_on_loopback_has_no_clients_outside() -> None:
    assert not {way for way in ways(flows(fleet(web1={"producer_bind": "127.0.0.1:8000"}))) if way[0] == "http"}


def test_a_place_is_reached_by_its_protocols_and_ports() -> None:
    found = {way[1:] for way in ways(flows(fleet())) if way[0] in ("resolver", "exchange_point") and way[1] == "db1"}
    assert found == {("db1", "resolver", "udp", 53), ("db1", "resolver", "tcp", 53), ("db1", "exchange", "icmp", 0)}


def test_a_place_that_is_a_host_of_the_fleet_is_that_host() -> None:
    assert {way for way in ways(flows(fleet())) if way[0] == "backup"} == {("backup", "db1", "store1", "tcp", 22)}


def test_an_extra_way_goes_where_it_says_with_its_reason() -> None:
    extra = [{"to": "db1", "ports": [5432], "reason": "reports"}, {"to": ["mail.example.net"], "ports": [25], "reason": "mail"}]
    found = [flow for flow in flows(fleet(web1={"topology_flows_extra": extra})) if flow.purpose == "extra"]
    assert ways(found) == {("extra", "web1", "db1", "tcp", 5432), ("extra", "web1", "mail.example.net", "tcp", 25)}
    assert {flow.reason for flow in found} == {"reports", "mail"}


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
def test_an_extra_way_that_is_wrong_opens_nothing(extra: dict[str, Any]) -> None:
    assert not [flow for flow in flows(fleet(web1={"topology_flows_extra": [extra]})) if flow.purpose == "extra"]


def test_an_extra_way_may_lead_to_many_and_never_to_its_own_host() -> None:
    extra = [{"to": ["db1", "web1", "broker1"], "ports": [80], "reason": "x"}]
    found = [flow for flow in flows(fleet(web1={"topology_flows_extra": extra})) if flow.purpose == "extra"]
    assert ways(found) == {("extra", "web1", "db1", "tcp", 80), ("extra", "web1", "broker1", "tcp", 80)}


def test_no_way_leads_from_a_host_to_itself() -> None:
    found = flows(fleet(worker1={"application_broker_hosts": ["10.0.0.3"], "application_database_host": "10.0.0.3"}))
    assert not [flow for flow in found if flow.source == flow.destination]


def test_every_way_touches_a_host_and_is_told_to_both_of_its_ends() -> None:
    one = fleet()
    found = flows(one)
    together = [flow for name in one.hosts for flow in of_host(found, name)]
    assert set(together) == set(found)
    assert sorted(found) == found


def test_as_data_a_ping_has_no_port() -> None:
    (data,) = (flow.as_data() for flow in of_host(flows(fleet()), "db1") if flow.protocol == "icmp")
    assert data == {
        "purpose": "exchange_point",
        "protocol": "icmp",
        "port": None,
        "source": {"kind": "host", "name": "db1", "addresses": ["10.0.0.2"]},
        "destination": {"kind": "place", "name": "exchange", "addresses": ["198.51.100.5"]},
        "reason": "",
        "user": "",
    }


def test_the_way_to_postgresql_is_for_pgbouncer_alone() -> None:
    assert {flow.user for flow in flows(fleet()) if flow.purpose == "postgresql"} == {"postgres"}
    assert {flow.user for flow in flows(fleet()) if flow.purpose == "amqp"} == {""}


def measured(one: Fleet, **hosts: dict[str, Any]) -> Fleet:
    return replace(one, hosts={name: replace(host, measured=hosts.get(name, {})) for name, host in one.hosts.items()})


def ssh(found: list[Flow]) -> set[tuple[str, str, int]]:
    return {(flow.source.name, flow.destination.name, flow.port) for flow in found if flow.purpose == "ssh"}


def test_a_jump_host_reaches_the_others_by_ssh() -> None:
    """Review finding 11: by what the hosts see, and by what the inventory says of a jump host where only it is in the run."""
    found = ssh(flows(measured(fleet(), db1={"controller": "10.0.0.4"})))
    assert ("web1", "db1", 22) in found and ("web1", "broker1", 22) not in found
    found = ssh(flows(fleet(web1={"host_ssh_tcp_forwarding": True})))
    assert {way for way in found if way[0] == "web1"} == {
        ("web1", "broker1", 22), ("web1", "db1", 22), ("web1", "worker1", 22), ("web1", "store1", 22)
    }  # fmt: skip
    assert not [way for way in ssh(flows(fleet(web1={"host_ssh_tcp_forwarding": False}))) if way[0] == "web1"]
    # The run is started on web1.
    assert ssh(flows(measured(fleet(), web1={"controller": "10.0.0.4"}))) == found


def test_administrators_come_in_at_the_port_of_ssh() -> None:
    """Review finding 34: where the run came in, else where the inventory looks for it, unless the place names ports."""
    one = fleet()
    hosts = one.hosts | {
        "db1": replace(one.hosts["db1"], ansible_port=2200),
        "web1": replace(one.hosts["web1"], ansible_port=2200),
    }
    found = ssh(flows(measured(replace(one, hosts=hosts), web1={"ssh_port": 22022})))
    assert {("operations", "db1", 2200), ("operations", "web1", 22022), ("operations", "broker1", 22)} <= found
    named = [place | ({"ports": [22]} if place["kind"] == "administrators" else {}) for place in PLACES]
    assert ("operations", "db1", 22) in ssh(flows(replace(fleet(named), hosts=fleet(named).hosts)))


def test_a_host_whose_name_no_dns_would_take_is_an_end() -> None:
    """Review finding 17."""
    one = fleet(web1={"topology_flows_extra": [{"to": ["db_1", "Store.1_"], "ports": [80], "reason": "x"}]})
    hosts = one.hosts | {name: Host(name, frozenset(), (), f"10.0.1.{n}") for n, name in enumerate(("db_1", "Store.1_"), 1)}
    one = replace(one, hosts=hosts)
    assert {flow.destination.addresses for flow in flows(one) if flow.purpose == "extra"} == {("10.0.1.1",), ("10.0.1.2",)}
    copies = {"name": "copies", "kind": "backup", "addresses": ["db_1"], "ports": [22], "country": "NO"}
    hosts["web1"].inputs["topology_places"] = [*PLACES, copies]
    assert ("backup", "web1", "db_1", "tcp", 22) in ways(flows(one))


BALANCED = [
    {"bind": "127.0.0.1:5000", "servers": {"db1": "10.0.0.2:5432", "db2": "[fd00::2]:5432"}, "check": {"port": 8008}},
    {"bind": "127.0.0.1:5001", "servers": {"broker1": "10.0.0.1:5671", "here": "127.0.0.1:9"}},
    "no mapping",
]


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(endpoints).failed == 0


def test_a_service_may_dial_and_listen_where_each_entry_of_a_list_says(monkeypatch: pytest.MonkeyPatch) -> None:
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
    one = fleet(db1={"postgresql_listen_addresses": ["10.0.0.2"], "postgresql_port": 5432})
    one.hosts["web2"] = Host("web2", frozenset({"balancer"}), (), "10.0.0.5", inputs={"balancer_listeners": BALANCED})
    assert {(place.source, place.address, place.port) for place in places(one.hosts["web2"], "balancer")} == {
        ("balancer_listeners", "127.0.0.1", 5000),
        ("balancer_listeners", "127.0.0.1", 5001),
    }
    found = [flow for flow in flows(one) if flow.source.name == "web2"]
    assert ways(found) == {
        ("postgresql", "web2", "db1", "tcp", 5432),
        ("balancer", "web2", "fd00::2", "tcp", 5432),
        ("balancer", "web2", "broker1", "tcp", 5671),
        ("balancer", "web2", "db1", "tcp", 8008),
        ("balancer", "web2", "fd00::2", "tcp", 8008),
    }
    assert {flow.user for flow in found if flow.port == 8008} == {"balancer"}
