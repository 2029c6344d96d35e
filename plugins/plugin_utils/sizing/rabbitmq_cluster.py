"""The members of a cluster of brokers, from the hosts of an inventory group."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .rabbitmq import rabbitmq_in_use


def rabbitmq_cluster_nodename(host: str) -> str:
    """The node name of a host, from its name in the inventory.

    It does not follow the operating system's host name, which may change: the data directory is named after the node.

    >>> rabbitmq_cluster_nodename("broker1.example.org")
    'rabbit@broker1-example-org'
    """
    return f"rabbit@{re.sub(r'[^A-Za-z0-9_-]+', '-', host)}"


def rabbitmq_cluster_nodes(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> dict[str, str]:
    """Node name to address of each broker of a group that is in use; empty for one, which is a single broker.

    >>> rabbitmq_cluster_nodes(["a", "b"], {"a": {"topology_address": "10.0.0.1"},
    ...     "b": {"topology_address": "10.0.0.2", "rabbitmq_nodename": "rabbit@old"}})
    {'rabbit@a': '10.0.0.1', 'rabbit@old': '10.0.0.2'}
    """
    hosts = rabbitmq_in_use(hosts, hostvars)
    if len(hosts) < 2:
        return {}
    nodes = ((hostvars[name].get("rabbitmq_nodename") or rabbitmq_cluster_nodename(name), hostvars[name]) for name in hosts)
    return {node: str(variables["topology_address"]) for node, variables in nodes}


def rabbitmq_cluster_forming(nodes: Mapping[str, str], hosts: Sequence[str], hostvars: Mapping[str, Any]) -> bool:
    """Whether the members form a new cluster: preflight looked at every member's host, and none has data.

    >>> blank = {"__rabbitmq_host": {"nodename": "rabbit@a", "members": []}}
    >>> rabbitmq_cluster_forming({"rabbit@a": ""}, ["a"], {"a": blank}), rabbitmq_cluster_forming(
    ...     {"rabbit@a": "", "rabbit@b": ""}, ["a"], {"a": blank})
    (True, False)
    """
    seen = {found["nodename"]: found["members"] for host in hosts if (found := hostvars[host].get("__rabbitmq_host"))}
    return all(seen.get(member) == [] for member in nodes)


def rabbitmq_cluster_speaker(nodes: Mapping[str, str], hosts: Sequence[str], hostvars: Mapping[str, Any]) -> str:
    """The first member that is in this run: it declares what all members share, so nothing is declared twice.

    >>> rabbitmq_cluster_speaker({"rabbit@a": "", "rabbit@b": ""}, ["b"], {"b": {"__rabbitmq_host": {"nodename": "rabbit@b"}}})
    'rabbit@b'
    """
    present = {found["nodename"] for host in hosts if (found := hostvars[host].get("__rabbitmq_host"))}
    return min(present & set(nodes), default="")
