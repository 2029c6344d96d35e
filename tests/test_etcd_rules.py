"""The arithmetic and the rules of role etcd, and what a member has to do."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.grunnfjell.platform.plugins.module_utils import etcd_steps
from ansible_collections.grunnfjell.platform.plugins.module_utils.etcd import Cluster, EtcdError, Member, sentence_of
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.flows import flows
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import etcd as refusals
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports import etcd as report
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import etcd

MEMBERS = {"db1": "10.0.0.21", "db2": "10.0.0.22", "db3": "10.0.0.23"}
CLUSTER = Cluster(MEMBERS, 2379, 2380)
BLANK, FILLED = {"data": False, "running": False}, {"data": True, "running": True}


def member(name: str, identity: str = "", started: bool = True, address: str = "") -> Member:
    where = address or MEMBERS.get(name, "10.0.0.99")
    urls = (f"https://{where}:2379",) if started else ()
    return Member(identity or f"id-{name}", name, (f"https://{where}:2380",), urls)


ALL = [member(name) for name in MEMBERS]


def problems(
    members: Any = MEMBERS, name: str = "db1", address: str = "10.0.0.21", beat: Any = 250, limit: Any = 2500
) -> list[str]:
    return etcd.etcd_problems(members, name, address, beat, limit)


@pytest.mark.parametrize("module", [etcd, etcd_steps])
def test_the_examples_hold(module: Any) -> None:
    assert doctest.testmod(module).attempted and doctest.testmod(module).failed == 0


@pytest.mark.parametrize("size", range(8))
def test_only_three_and_five_members_form_a_cluster(size: int) -> None:
    members = {f"db{number}": f"10.0.0.{number}" for number in range(1, size + 1)}
    said = [text for text in problems(members, "10.0.0.1") if text.startswith("etcd_members has ")]
    assert bool(said) == (size not in (3, 5))


def test_inputs_that_another_check_refuses_raise_nothing() -> None:
    assert problems("three hosts") == [] and problems(beat="often", limit=None) == []


def test_settings_become_variables_and_none_is_set_twice() -> None:
    assert etcd.etcd_settings({"name": "db1"}, {"max-txn-ops": 200}) == {"ETCD_NAME": "db1", "ETCD_MAX_TXN_OPS": "200"}
    for parameters, sentence in (
        ({"name": "db2"}, "names name, which the role sets itself"),
        ({"initial-cluster-state": "new"}, "names 'initial-cluster-state', which is not a setting that can be added here"),
        ({"log-level": "a\nb"}, "sets log-level to a text with a quote, backslash or line break"),
    ):
        with pytest.raises(AnsibleFilterError, match=sentence):
            etcd.etcd_settings({"name": "db1"}, parameters)


def test_a_run_knows_the_reports_of_its_own_hosts_only() -> None:
    answers = {"db1": {"__etcd_member": {"report": BLANK}}, "db2": {"__etcd_member": {"skipped": True}}, "web1": {}}
    assert etcd.etcd_reports(answers, MEMBERS) == {"db1": BLANK}


def test_memory_grows_with_the_quota() -> None:
    parts = etcd.memory_parts(Host("db1", inputs={"etcd_quota_backend_bytes": 2**29}))
    assert sum(size for _, size in parts or []) == etcd.ETCD + 2**29
    assert etcd.memory_parts(Host("db1")) is None


# --- What a member has to do ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reports", "begins"),
    [
        (dict.fromkeys(MEMBERS, BLANK), True),
        ({"db1": BLANK, "db2": BLANK}, False),  # db3, outside --limit, may have data
        ({"db1": BLANK, "db2": FILLED, "db3": BLANK}, False),
    ],
)
def test_a_cluster_begins_only_where_every_host_was_asked_and_is_blank(reports: dict, begins: bool) -> None:
    assert etcd_steps.may_bootstrap(MEMBERS, reports) == begins


def test_a_blank_host_that_finds_nobody_is_refused_while_a_host_was_not_asked() -> None:
    with pytest.raises(EtcdError, match="db2, db3 did not take part in this run, so a second cluster could begin"):
        etcd_steps.refuse_a_second_cluster("db1", MEMBERS, {"db1": BLANK})
    etcd_steps.refuse_a_second_cluster("db1", MEMBERS, {**dict.fromkeys(MEMBERS, BLANK), "db2": FILLED})


def test_a_member_of_a_cluster_that_was_cut_off_while_it_began_is_told_from_one_that_lost_its_data() -> None:
    assert etcd_steps.never_formed("db2", [member("db1"), member("db2", started=False)])
    assert not etcd_steps.never_formed("db2", ALL)
    # `member add` gives no name before the first start.
    assert not etcd_steps.never_formed("db2", [member("db1"), member("", started=False, address="10.0.0.22")])


def test_strangers_are_removed_unless_they_are_half_of_the_cluster() -> None:
    urls = [CLUSTER.peer_url(name) for name in MEMBERS]
    former, added = member("db9"), member("", started=False, address="10.0.0.23")
    assert etcd_steps.strangers(MEMBERS, [*ALL, former], urls) == [former]
    assert etcd_steps.strangers(MEMBERS, [*ALL[:2], added], urls) == []
    with pytest.raises(EtcdError, match="db7, db8, db9 are members of this cluster and not in etcd_members"):
        etcd_steps.strangers(MEMBERS, [*ALL, member("db7"), member("db8"), former], urls)


def test_a_member_that_moved_to_another_address_is_named() -> None:
    urls = {name: CLUSTER.peer_url(name) for name in MEMBERS}
    assert etcd_steps.moved(MEMBERS, ALL, urls) == ""
    sentence = etcd_steps.moved(MEMBERS, [member("db1", address="10.9.9.9"), *ALL[1:]], urls)
    assert sentence.startswith("db1 is a member as https://10.9.9.9:2380, but etcd_members has 10.0.0.21.")


def test_data_of_a_removed_member_is_recognised() -> None:
    url = CLUSTER.peer_url("db3")
    assert not etcd_steps.was_removed("db3", url, ALL, ALL)
    assert not etcd_steps.was_removed("db3", url, ALL, [])
    assert etcd_steps.was_removed("db3", url, ALL[:2], [])
    # Another machine has taken its place under the same name.
    assert etcd_steps.was_removed("db3", url, [*ALL[:2], member("db3", "new")], ALL)
    added = member("", "new", started=False, address="10.0.0.23")
    assert not etcd_steps.was_removed("db3", url, [*ALL[:2], added], [])


def test_only_one_host_reports_the_removal_of_strangers() -> None:
    assert etcd_steps.first_act(MEMBERS, dict.fromkeys(MEMBERS, FILLED)) == "db1"
    assert etcd_steps.first_act(MEMBERS, {**dict.fromkeys(MEMBERS, FILLED), "db3": BLANK}) == "db3"


def test_a_new_member_starts_with_the_cluster_that_it_joins() -> None:
    lines = etcd_steps.bootstrap_file(Cluster({"db1": "10.0.0.21", "db2": "fd00::22"}, 2379, 2380), "existing").splitlines()
    assert lines == [
        "ETCD_INITIAL_CLUSTER=db1=https://10.0.0.21:2380,db2=https://[fd00::22]:2380",
        "ETCD_INITIAL_CLUSTER_STATE=existing",
        "ETCD_INITIAL_CLUSTER_TOKEN=grunnfjell",
    ]


HEALTHY: dict[str, str] = dict.fromkeys(MEMBERS, "")
LED: dict[str, str] = dict.fromkeys(MEMBERS, "a1")


def disagreements(views: Any = None, troubles: Any = None, leaders: Any = None) -> list[str]:
    seen = dict.fromkeys(MEMBERS, ALL) | (views or {})
    return etcd_steps.disagreements(MEMBERS, seen, HEALTHY | (troubles or {}), LED | (leaders or {}))


def test_a_sound_cluster_has_no_disagreement() -> None:
    assert disagreements() == []


@pytest.mark.parametrize(
    ("differing", "sentence"),
    [
        ({"views": {"db2": ALL[:2]}}, "db2 does not know db3"),
        ({"views": {"db1": [*ALL, member("db9")]}}, "db1 has the member db9, which is not in etcd_members"),
        ({"views": {"db3": [member(name, "other") for name in MEMBERS]}}, "members of different clusters"),
        ({"troubles": {"db2": "it has no majority"}}, "db2 is not healthy: it has no majority"),
        ({"leaders": {"db2": "b2"}}, "the members have no common leader: db1 has a1, db2 has b2, db3 has a1"),
        ({"leaders": dict.fromkeys(MEMBERS, "0")}, "the members have no common leader"),
    ],
)
def test_each_disagreement_is_named(differing: dict, sentence: str) -> None:
    assert any(sentence in problem for problem in disagreements(**differing))


def test_an_error_of_etcdctl_is_its_sentence() -> None:
    logged = '{"level":"warn","msg":"retrying of unary invoker failed"}\nError: etcdserver: unhealthy cluster\n'
    assert sentence_of(logged) == "Error: etcdserver: unhealthy cluster"


# --- Across hosts ---------------------------------------------------------------------------------------------------------


def host(name: str, **inputs: Any) -> Host:
    given = {"etcd_members": MEMBERS, "etcd_client_port": 2379, "etcd_peer_port": 2380, "etcd_listen_address": MEMBERS[name]}
    return Host(name, frozenset({"etcd"}), address=MEMBERS[name], release="13", inputs=given | inputs)


def fleet(**changed: dict[str, Any]) -> Fleet:
    return Fleet({name: host(name, **changed.get(name, {})) for name in MEMBERS}, {"etcd": ("etcd",)})


def test_members_that_agree_are_not_refused() -> None:
    for rule in (refusals.split_clusters, refusals.unequal_members, refusals.members_elsewhere):
        assert list(rule(fleet())) == []


def test_ports_that_differ_are_refused() -> None:
    (sentence,) = refusals.unequal_members(fleet(db2={"etcd_peer_port": 2381}))
    assert sentence.startswith("etcd_peer_port is 2380 on db1, 2381 on db2, 2380 on db3, but must be the same on every member")


def test_only_etcd_and_root_of_a_member_may_reach_the_other_members() -> None:
    own = [flow for flow in flows(fleet()) if flow.source.name == "db1"]
    assert {(flow.destination.name, flow.port, flow.user) for flow in own} == {
        (name, port, user) for name in ("db2", "db3") for port in (2379, 2380) for user in ("etcd", "root")
    }


# --- Status ---------------------------------------------------------------------------------------------------------------

NAMES = {"known": sorted(MEMBERS), "declared": sorted(MEMBERS)}
SOUND = {"trouble": "", **NAMES, "quota": 1000, "leader": "db1", "version": "3.5.16", "bytes": 10, "alarms": []}


def attention(**changed: dict[str, Any]) -> list[str]:
    return list(report.etcd_attention({"etcd": {name: changed.get(name, SOUND | {"name": name}) for name in MEMBERS}}))


def test_a_sound_cluster_needs_no_attention_and_has_a_line_for_each_member() -> None:
    answers = {"etcd": dict.fromkeys(MEMBERS, SOUND)}
    assert attention() == [] and list(report.etcd_attention({"etcd": {}})) == []
    assert [kind for kind, _ in report.etcd_rows(answers)] == ["etcd"] * 3


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({**SOUND, "trouble": "no majority", "leader": None}, "db2: its member of etcd is not healthy: no majority"),
        ({**SOUND, "alarms": ["NOSPACE"]}, "db2: etcd has the alarm NOSPACE"),
        ({**SOUND, "bytes": 800}, "it refuses every write, so PostgreSQL would lose its primary"),
        ({**SOUND, "known": ["db1", "db2"]}, "db2: etcd does not know the member db3: run site.yml"),
        ({**SOUND, "known": [*MEMBERS, "db9"]}, "db2: etcd has the member db9, which is not in the inventory"),
        ({**SOUND, "leader": "db2"}, "the members of etcd name different leaders: db1, db2"),
    ],
)
def test_what_is_wrong_with_a_member_is_a_sentence(answer: dict[str, Any], sentence: str) -> None:
    assert any(sentence in text for text in attention(db2=answer))


def test_a_cluster_without_a_majority_is_named() -> None:
    down = {"error": "connection refused"}
    assert any("etcd has no majority: db1, db2 of 3 members are down" in text for text in attention(db1=down, db2=down))
    assert not any("no majority" in text for text in attention(db1=down))


def test_a_member_whose_host_does_not_answer_is_down_and_not_unknown_to_the_inventory() -> None:
    seen = {"db1": SOUND, "db2": SOUND | {"trouble": "no majority", "leader": None}}
    sentences = list(report.etcd_attention({"etcd": seen}))
    assert any("etcd has no majority: db2, db3 of 3 members are down" in text for text in sentences), sentences
    assert not list(report.etcd_attention({"etcd": {"db1": SOUND, "db2": SOUND}}))


def test_a_rotation_restarts_the_members_after_the_hosts_have_new_authorities_and_before_its_next_step() -> None:
    part = Path(__file__).resolve().parents[1] / "playbooks/rotation_trust.yml"
    trust, restart = yaml.safe_load(part.read_text(encoding="utf-8"))
    assert "grunnfjell.platform.pki" in str(trust["tasks"])
    assert "'etcd'" in restart["hosts"] and "'tasks_from': 'rotate'" in str(restart["tasks"])
