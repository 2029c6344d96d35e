"""The arithmetic and the rules of role patroni, and what a member has to do."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.grunnfjell.platform.plugins.module_utils import patroni as steps
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import patroni as refusals
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import patroni, postgresql

MEMBERS = {"db1": "10.0.0.21", "db2": "10.0.0.22", "db3": "10.0.0.23"}
ETCD = ["10.0.0.21:2379", "10.0.0.22:2379", "[fd00::23]:2379"]
BLANK = {"managed": False, "filled": True, "databases": False}
FILLED = BLANK | {"databases": True}
MANAGED = FILLED | {"managed": True}


def problems(members: Any = MEMBERS, address: str = "10.0.0.21", etcd: Any = ETCD, timers: Any = (20, 5, 5)) -> list[str]:
    return patroni.patroni_problems(members, "db1", address, etcd, *timers)


@pytest.mark.parametrize("module", [patroni, steps])
def test_the_examples_hold(module: Any) -> None:
    assert doctest.testmod(module).attempted and doctest.testmod(module).failed == 0


def test_sound_inputs_have_no_problem_and_wrong_types_are_left_to_their_check() -> None:
    assert problems() == [] and problems(members="three", etcd="one", timers=("x", None, 5)) == []


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"members": {"db1": "10.0.0.21"}}, "With one host, take patroni out of topology_roles: it stays a single server."),
        ({"members": MEMBERS | {"db4": "10.0.0.24"}}, "patroni_members has 4 (db1, db2, db3, db4), but takes 2 or 3."),
        ({"members": MEMBERS | {"db2": "db2.example.net"}}, "has 'db2.example.net' for db2, but needs an address"),
        ({"members": MEMBERS | {"db2": "10.0.0.21"}}, "patroni_members has db1 and db2 both at 10.0.0.21"),
        ({"members": {"db2": "10.0.0.22", "db3": "10.0.0.23"}}, "patroni_members does not have db1"),
        ({"address": "127.0.0.1"}, "patroni_restapi_address is 127.0.0.1, but the other members reach db1 at 10.0.0.21"),
        ({"etcd": []}, "patroni_etcd_hosts is empty"),
        ({"etcd": ["10.0.0.21"]}, "patroni_etcd_hosts has '10.0.0.21', which is not address:port"),
        ({"timers": (20, 10, 10)}, "patroni_ttl is 20 s, but must be at least patroni_loop_wait plus twice"),
    ],
)
def test_each_wrong_input_is_a_sentence(inputs: dict[str, Any], sentence: str) -> None:
    assert any(sentence in problem for problem in problems(**inputs))


def test_no_key_of_the_dynamic_configuration_is_set_twice() -> None:
    for key in ("ttl", "synchronous_mode_strict"):
        with pytest.raises(AnsibleFilterError, match=f"patroni_parameters names {key}, which the role sets itself"):
            patroni.patroni_dynamic({"ttl": 20}, {key: 1})


def test_only_members_may_replicate_and_by_their_certificate() -> None:
    assert postgresql.postgresql_replication_rules([]) == []
    assert postgresql.postgresql_replication_rules(["10.0.0.21"]) == [
        "local replication replicator peer map=patroni",
        "hostssl replication replicator 10.0.0.21/32 cert map=patroni",
        "hostssl postgres rewind 10.0.0.21/32 cert map=patroni",
    ]


# --- What a member has to do ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reports", "adopted"),
    [
        (dict.fromkeys(MEMBERS, BLANK), "db1"),
        ({**dict.fromkeys(MEMBERS, BLANK), "db2": FILLED}, "db2"),
        ({**dict.fromkeys(MEMBERS, BLANK), "db3": MANAGED}, None),
        ({"db3": MANAGED}, None),  # with --limit
    ],
)
def test_the_server_with_data_is_adopted_and_only_where_there_is_no_cluster(reports: dict, adopted: str | None) -> None:
    assert steps.first_primary(MEMBERS, reports) == adopted


def test_two_servers_with_data_are_refused_and_so_is_a_new_cluster_of_some_hosts() -> None:
    with pytest.raises(steps.PatroniError, match="db1 and db2 both have databases, but one cluster has one history"):
        steps.first_primary(MEMBERS, {**dict.fromkeys(MEMBERS, FILLED), "db3": BLANK})
    with pytest.raises(steps.PatroniError, match="db2, db3 did not take part in this run"):
        steps.first_primary(MEMBERS, {"db1": BLANK})


def test_a_change_of_the_dynamic_configuration_names_only_what_differs() -> None:
    current = {"ttl": 20, "pause": True, "postgresql": {"use_slots": True, "parameters": {"max_connections": "60"}}}
    wanted = {"ttl": 20, "postgresql": {"use_slots": True, "parameters": {"max_connections": 60, "wal_keep_size": "1GB"}}}
    change = steps.differences(wanted, current)
    assert change == {"postgresql": {"parameters": {"wal_keep_size": "1GB"}}}
    assert steps.keys_of(change) == ["postgresql.parameters.wal_keep_size"]


def cluster(**changed: dict[str, Any]) -> dict[str, dict[str, Any]]:
    parts = {name: {"name": name, "role": "replica", "state": "streaming", "timeline": 2} for name in MEMBERS}
    parts["db1"] |= {"role": "leader", "state": "running"}
    parts["db2"] |= {"role": "sync_standby"}
    return {name: part | changed.get(name, {}) for name, part in parts.items()}


def test_a_sound_cluster_has_no_disagreement_and_a_leader() -> None:
    assert steps.disagreements(MEMBERS, cluster()) == []
    assert steps.leader_of(cluster()) == "db1" and steps.leader_of(None) is None
    assert steps.leader_of(cluster(db1={"state": "starting"})) is None


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"db1": {"role": "replica", "state": "streaming"}}, "the cluster has 0 leaders"),
        ({"db3": {"role": "leader"}}, "the cluster has 2 leaders: db1, db3"),
        ({"db3": {"state": "start failed"}}, "db3 is start failed"),
        ({"db3": {"timeline": 1}}, "db3 is on timeline 1, and db1, the primary, on 2. If it does not follow"),
        ({"db2": {"role": "replica"}}, "no standby is synchronous"),
    ],
)
def test_each_disagreement_is_named(changed: dict[str, Any], sentence: str) -> None:
    assert any(sentence in problem for problem in steps.disagreements(MEMBERS, cluster(**changed)))


def test_members_that_are_missing_or_too_many_are_named() -> None:
    two = {name: part for name, part in cluster().items() if name != "db3"}
    assert "db3 is not in the cluster" in steps.disagreements(MEMBERS, two)
    assert any("the member db9, which is not in" in text for text in steps.disagreements(MEMBERS, cluster() | {"db9": {}}))


# --- Across hosts ---------------------------------------------------------------------------------------------------------


def host(name: str, *roles: str, **inputs: Any) -> Host:
    given: dict[str, Any] = {
        "patroni_members": MEMBERS,
        "patroni_etcd_hosts": [f"{address}:2379" for address in MEMBERS.values()],
        "patroni_port": 5432,
        "postgresql_port": 5432,
        "patroni_max_connections": 60,
        "postgresql_max_connections": 60,
        "postgresql_replication_addresses": list(MEMBERS.values()),
    }
    own = frozenset(roles or ("patroni", "postgresql", "etcd"))
    return Host(name, own, address=MEMBERS[name], release="13", inputs=given | inputs)


def fleet(**changed: dict[str, Any]) -> Fleet:
    hosts = {name: host(name, **changed.get(name, {})) for name in MEMBERS}
    return Fleet(hosts, {role: (role,) for role in ("patroni", "postgresql", "etcd")})


RULES = (refusals.unequal_databases, refusals.unbound_databases, refusals.databases_without_etcd)


def refused(changed: Fleet) -> list[str]:
    return [sentence for rule in RULES for sentence in rule(changed)]


def test_members_that_agree_are_not_refused() -> None:
    assert refused(fleet()) == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"patroni_members": MEMBERS | {"db9": "10.0.0.29"}}, "db2: patroni_members names db9, which is not a host of the group"),
        ({"patroni_ttl": 30}, "patroni_ttl is None on db1, 30 on db2, None on db3, but must be the same on every member"),
        ({"postgresql_port": 5433}, "db2: patroni_port is 5432, but postgresql_port is 5433. Bind patroni_port"),
        ({"patroni_max_connections": 50}, "db2: patroni_max_connections is 50, but postgresql_max_connections is 60"),
        ({"postgresql_replication_addresses": ["10.0.0.21"]}, "postgresql_replication_addresses lacks 10.0.0.22 (db2)"),
    ],
)
def test_each_fault_across_hosts_is_a_sentence(changed: dict[str, Any], sentence: str) -> None:
    assert any(sentence in text for text in refused(fleet(db2=changed)))


def test_etcd_on_a_host_without_it_is_refused() -> None:
    hosts = dict(fleet().hosts) | {"db3": host("db3", "patroni", "postgresql")}
    sentences = refused(Fleet(hosts, fleet().roles))
    assert any("patroni_etcd_hosts names 10.0.0.23:2379, but db3 does not carry etcd" in text for text in sentences)
