"""The rules of role keepalived, its flows, and who has a virtual address in the status report."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.grunnfjell.platform.plugins.module_utils import interfaces, keepalived_status
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import services
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.flows import flows
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.ruleset import PORTLESS, firewall_table
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import keepalived as refusals
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports import keepalived as report
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import keepalived

MEMBERS = {"web1": "10.0.0.41", "web2": "10.0.0.42"}
INSTANCES = [{"virtual_ipaddress": "10.0.0.40", "virtual_router_id": 40}]
V6 = {"web1": "fd00::41", "web2": "fd00::42"}


def problems(members: Any = MEMBERS, instances: Any = INSTANCES, server: Any = "10.0.0.41:8000", **words: str) -> list[str]:
    return keepalived.keepalived_problems(members, "web1", instances, server, words)


def fleet(**changed: dict[str, Any]) -> Fleet:
    inputs = {"keepalived_members": MEMBERS, "keepalived_vrrp_instances": INSTANCES}
    hosts = {
        name: Host(name, frozenset({"keepalived", "firewall"}), (), address, inputs=inputs | changed.get(name, {}))
        for name, address in MEMBERS.items()
    }
    return Fleet(hosts | {"db1": Host("db1", frozenset({"firewall"}), (), "10.0.0.21")}, {"keepalived": ("producers",)})


@pytest.mark.parametrize("module", [keepalived, interfaces])
def test_the_examples_hold(module: Any) -> None:
    assert doctest.testmod(module).attempted and doctest.testmod(module).failed == 0


def test_sound_inputs_of_either_family_are_accepted() -> None:
    assert problems(keepalived_check_host="jobs.example.org", keepalived_check_path="/healthz") == []
    assert problems(V6, [{"virtual_ipaddress": "fd00::40", "virtual_router_id": 40}], "[fd00::41]:8000") == []


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"members": {"web1": "10.0.0.41"}}, "has only web1"),
        ({"members": {"web2": "10.0.0.42", "web3": "10.0.0.43"}}, "does not have web1"),
        ({"members": {**MEMBERS, "web2": "fd00::42"}}, "mixes IPv4 and IPv6"),
        ({"instances": [*INSTANCES, *INSTANCES]}, "has 10.0.0.40 twice"),
        ({"server": "10.0.0.41"}, "is not address:port"),
        ({"server": "web1:8000"}, "is not address:port"),
        ({"server": "[fd00::41]:8000"}, "can only be passed on to an IPv4 address"),
        ({"server": "127.0.0.1:8000"}, "can only be passed on to an IPv4 address"),
        ({"keepalived_check_host": 'a"b'}, "takes no blanks or quotes"),
    ],
)
def test_each_fault_is_one_sentence(inputs: dict[str, Any], sentence: str) -> None:
    (said,) = problems(**inputs)
    assert sentence in said


def test_inputs_that_another_check_refuses_raise_nothing() -> None:
    assert problems("two hosts") == [] and problems(instances=[{}], server=None)


def test_priorities_differ_and_stay_below_that_of_an_owner() -> None:
    members = {f"web{number:03}": f"10.0.0.{number}" for number in range(1, 200)}
    priorities = [keepalived.keepalived_priority(members, name) for name in members]
    assert len(set(priorities)) == len(members) and set(priorities) <= set(range(1, 255))


@pytest.mark.parametrize("value", ["a\nb", "x { y"])
def test_a_parameter_is_one_line(value: str) -> None:
    with pytest.raises(AnsibleFilterError, match="takes one keyword"):
        keepalived.keepalived_lines({}, {"global_defs": {"router_id": value}}, "global_defs")


def test_adverts_flow_between_the_members_and_from_nobody_else() -> None:
    declared = [flow for flow in flows(fleet()) if flow.protocol == "vrrp"]
    ends = {(flow.source.name, flow.destination.name) for flow in declared}
    assert ends == {("web1", "web2"), ("web2", "web1")} and {(flow.port, flow.user) for flow in declared} == {(0, "root")}
    data = [flow.as_data() for flow in declared]
    assert data[0]["port"] is None  # so nobody scans it
    table = firewall_table(data, "web1")
    assert [rule["match"] for rule in table["input"] if rule["comment"] != "ping"] == ["ip saddr { 10.0.0.42 } meta l4proto 112"]
    assert [rule["match"] for rule in table["output"] if rule["comment"] != "ping"] == [
        "ip daddr { 10.0.0.42 } meta l4proto 112 meta skuid root"
    ]
    assert firewall_table(data, "db1")["input"] == []


def test_every_service_dials_by_a_protocol_that_the_firewall_knows() -> None:
    protocols = {entry.protocol for service in services().values() for entry in service.dials}
    assert protocols == {"tcp", *PORTLESS}


def test_sound_members_are_not_refused() -> None:
    rules = (refusals.unequal_members, refusals.shared_addresses, refusals.unreachable_addresses, refusals.unnamed_addresses)
    assert [sentence for rule in rules for sentence in rule(fleet())] == []


def measured(network: str) -> Fleet:
    """The fleet where web1, which has the virtual address now, is in this network."""
    link = {"interface": "eth0", "network": network}
    hosts = fleet().hosts
    interfaces_of = {"10.0.0.41": link, "10.0.0.40": link | {"network": "10.0.0.40/32"}}
    return Fleet(hosts | {"web1": replace(hosts["web1"], measured={"interfaces": interfaces_of})}, {})


def test_a_host_that_holds_the_address_now_is_not_refused() -> None:
    assert list(refusals.unreachable_addresses(measured("10.0.0.0/24"))) == []


def test_an_address_of_another_network_is_refused() -> None:
    (sentence,) = refusals.unreachable_addresses(measured("10.0.0.41/32"))
    assert "has 10.0.0.40, which is not in 10.0.0.41/32, the network of eth0" in sentence


def answer(*held: str, running: bool = True) -> dict[str, Any]:
    return {"declared": ["10.0.0.40"], "held": list(held), "running": running}


@pytest.mark.parametrize(
    ("web1", "web2", "sentences"),
    [
        (answer("10.0.0.40"), answer(), []),
        (answer("10.0.0.40"), {"error": "no answer"}, []),
        (answer(), answer(), ["no host has the virtual address 10.0.0.40"]),
        (answer("10.0.0.40"), answer("10.0.0.40"), ["web1 and web2 have the virtual address 10.0.0.40 at the same time"]),
        (answer("10.0.0.40"), answer(running=False), ["web2: keepalived does not run"]),
    ],
)
def test_the_status_warns_when_nobody_or_several_have_the_address(web1: dict, web2: dict, sentences: list[str]) -> None:
    said = list(report.keepalived_attention({"keepalived": {"web1": web1, "web2": web2}}))
    assert len(said) == len(sentences) and all(text.startswith(start) for text, start in zip(said, sentences, strict=True))


def test_the_status_says_who_has_the_address() -> None:
    rows = list(report.keepalived_rows({"keepalived": {"web1": answer(), "web2": answer("10.0.0.40")}}))
    assert rows == [("address", "10.0.0.40: on web2; also for web1")]


def test_a_host_is_asked_for_its_addresses_in_any_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = [{"ifname": "eth0", "addr_info": [{"local": "fd00::40", "prefixlen": 128}]}, {"ifname": "tun0", "addr_info": [{}]}]
    outputs = {"ip": json.dumps(listing), "systemctl": "active\n"}
    monkeypatch.setattr(keepalived_status, "output", lambda program, *_: outputs[program])
    instances = [{"virtual_ipaddress": "fd00:0::40"}, {"virtual_ipaddress": "fd00::39"}]
    status = keepalived_status.member({"instances": instances})
    assert status == {"declared": ["fd00:0::40", "fd00::39"], "held": ["fd00:0::40"], "running": True}
