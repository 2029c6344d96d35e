"""Clusters of brokers: what a host's data says of the members, who may connect, and when leaders are spread."""

from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import rabbitmq_node
from ansible_collections.grunnfjell.platform.plugins.module_utils.rabbitmq_cluster import View
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.flows import flows
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import broker_clusters
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.status_attention import split_views
from fleets import HOSTS, ROLES, make_host

NODES = {f"rabbit@broker{number}": f"10.0.0.{number}" for number in (1, 2, 3)}


def cluster(**measured: dict[str, list[str]]) -> Fleet:
    """The fleet of the tests with three brokers; measured: host to the nodes whose data it has, with their members."""
    hosts = {name: host for name, host in HOSTS.items() if name != "broker1"}
    for node, address in NODES.items():
        name = node.removeprefix("rabbit@")
        host = make_host(
            name, "rabbitmq", rabbitmq_nodename=node, rabbitmq_cluster_nodes=NODES, rabbitmq_distribution_address=address
        )
        hosts[name] = replace(host, address=address, measured={"broker_nodes": measured.get(name, {})})
    return Fleet(hosts, ROLES)


def with_data(data_dir: Path, node: str, members: str | None, started: bool = True) -> Path:
    home = data_dir / "mnesia" / node
    home.mkdir(parents=True)
    (home / "quorum").mkdir()
    if members:
        (home / "cluster_nodes.config").write_text(members)
    if started:
        (home / "msg_stores/vhosts/4RO7").mkdir(parents=True)
        (home / "msg_stores/vhosts/4RO7/.vhost").write_text("news")
    return data_dir


def test_a_node_knows_its_members_by_its_data(tmp_path):
    text = "{['rabbit@b-1','rabbit@a.example.org'],['rabbit@b-1','rabbit@a.example.org']}.\n"
    data_dir = with_data(tmp_path, "rabbit@b-1", text)
    assert rabbitmq_node.measured(data_dir) == {"rabbit@b-1": ["rabbit@a.example.org", "rabbit@b-1"]}


def test_a_node_that_waited_in_vain_for_its_first_peers_counts_as_blank(tmp_path):
    data_dir = with_data(tmp_path, "rabbit@a", "{['rabbit@a'],['rabbit@a']}.", started=False)
    assert rabbitmq_node.measured(data_dir) == {} and rabbitmq_node.members(data_dir, "rabbit@a") == []


def test_a_single_broker_of_an_older_kit_is_its_only_member(tmp_path):
    assert rabbitmq_node.measured(with_data(tmp_path, "rabbit@a", None)) == {"rabbit@a": ["rabbit@a"]}


# epmd, Erlang's distribution, and the tools, whose range RabbitMQ documents.
PORTS = (4369, 25672, *range(35672, 35683))


def test_members_and_their_tools_reach_each_other_and_nobody_else_reaches_their_ports():
    found = {
        (flow.source.name, flow.destination.name, flow.port)
        for flow in flows(cluster())
        if flow.port in PORTS or flow.purpose in ("cluster", "tools")
    }
    names = [node.removeprefix("rabbit@") for node in NODES]
    assert found == {(a, b, port) for a in names for b in names for port in PORTS if a != b}
    assert not [flow for flow in flows(Fleet(HOSTS, ROLES)) if flow.purpose == "cluster"]


ALL = sorted(NODES)


@pytest.mark.parametrize(
    "measured",
    [
        {},
        {"broker1": {ALL[0]: [ALL[0]]}},
        {"broker1": {ALL[0]: ALL}, "broker2": {ALL[1]: ALL}},
        {"broker1": {ALL[0]: ALL}, "broker2": {ALL[1]: ALL}, "broker3": {ALL[2]: ALL}},
    ],
    ids=["blank", "one to three", "a replaced machine", "a cluster"],
)
def test_the_way_to_three_brokers_is_never_refused(measured):
    fleet = cluster(**measured)
    rules = (broker_clusters.other_data, broker_clusters.removed_members, broker_clusters.lost_majorities)
    rules += (broker_clusters.cluster_sizes, broker_clusters.cluster_names, broker_clusters.cluster_releases)
    assert [sentence for rule in rules for sentence in rule(fleet)] == []


@pytest.mark.parametrize(
    ("leaders", "balanced"), [("", True), ("abc", True), ("aabbc", True), ("aab", False), ("aaab", False), ("aaabbbccca", True)]
)
def test_leaders_are_spread_only_when_a_member_leads_more_than_its_share(leaders, balanced):
    nodes = frozenset("abc")
    queues = tuple({"name": str(number), "vhost": "news", "members": list(nodes), "leader": leader}
                   for number, leader in enumerate(leaders))  # fmt: skip
    view = View("a", nodes, nodes, queues)
    assert view.balanced is balanced and view.short_queues(nodes) == []
    assert len(view.short_queues(nodes | {"d"})) == len(queues)


def test_status_names_members_that_do_not_agree_on_who_runs():
    answers = {
        "broker1": {"node": "rabbit@a", "running": ["rabbit@a", "rabbit@b"]},
        "broker2": {"node": "rabbit@b", "running": ["rabbit@b"]},
        "broker3": {"error": "no answer"},
    }
    (sentence,) = split_views({"brokers": answers})
    assert sentence.startswith("rabbit@a sees rabbit@a, rabbit@b running, but rabbit@b sees rabbit@b")
    answers["broker2"]["running"] = ["rabbit@b", "rabbit@a"]
    assert list(split_views({"brokers": answers})) == []
