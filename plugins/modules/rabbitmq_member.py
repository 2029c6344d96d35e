#!/usr/bin/python3
"""A broker as a member of its cluster: joined, restarted without a loss of quorum, complete."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_member
short_description: Make this host's broker a member of its cluster
description:
  - C(joined) starts a broker that does not run. One without data waits until a member answers (which proves that names, ports,
    cookie and certificates fit), makes the cluster forget a lost member with the same name, and joins. If no member has data
    (I(forming)), all start at the same moment and find each other. A running single broker that has read older files restarts.
  - C(restarted) restarts a member that has read older files, once every queue keeps its majority without it; its queues' leaders
    move away before. Run it on one member at a time.
  - C(stopped) stops a broker for an update. A member of a cluster moves its leaders away, once every queue keeps its majority
    without it.
  - C(complete) fails unless this node believes that exactly I(nodes) are members. It gives each quorum queue a replica on every
    running member, and spreads the leaders if one node leads more than its share.
options:
  state: {description: What to reach., type: str, choices: [joined, restarted, stopped, complete], required: true}
  node: {description: This host's node., type: str, required: true}
  nodes: {description: 'All members, this node included.', type: list, elements: str, required: true}
  forming: {description: Whether no member has data., type: bool, default: false}
  data_dir: {description: The broker's data directory., type: path, required: true}
  files: {description: Files that the broker reads at startup., type: list, elements: path, required: true}
  start_seconds: {description: Seconds that a start may take., type: int, default: 180}
  wait_seconds: {description: Seconds to wait for other members and for quorum., type: int, default: 180}
  stop_seconds: {description: Seconds that a stop may take., type: int, default: 330}
author: maintainers
"""

EXAMPLES = r"""
- name: Join the cluster
  rabbitmq_member:
    state: joined
    node: rabbit@broker2
    nodes: [rabbit@broker1, rabbit@broker2, rabbit@broker3]
    data_dir: /var/lib/rabbitmq
    files: [/etc/rabbitmq/rabbitmq.conf]
"""

RETURN = r"""
actions: {description: What was done., returned: success, type: list, elements: str}
members: {description: The members that this node knows; only for C(complete)., returned: success, type: list, elements: str}
running: {description: Those of them that run., returned: success, type: list, elements: str}
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import rabbitmq_cli, rabbitmq_node
from ..module_utils import rabbitmq_cluster as cluster
from ..module_utils.rabbitmq_cluster import PAUSE_S, ClusterError
from ..module_utils.waiting import until


class Member:
    """node: this host's.  nodes: all that the inventory declares.  did: what was done, in order."""

    def __init__(self, params: dict[str, Any], check_mode: bool) -> None:
        self.params, self.check_mode = params, check_mode
        self.node, self.nodes = params["node"], frozenset(params["nodes"])
        self.peers = [node for node in params["nodes"] if node != self.node]
        self.seen: cluster.View | None = None
        self.did: list[str] = []
        self.warnings: list[str] = []

    def known(self) -> list[str]:
        """The members by the data on this host; empty for a blank one."""
        return rabbitmq_node.members(Path(self.params["data_dir"]), self.node)

    def joined(self) -> None:
        if cluster.active():
            if self.known() == [self.node] and rabbitmq_node.restart_due(self.params["files"]):
                self.restart()
            return
        blank = not self.known()
        self.did.append(f"started {self.node}")
        if self.check_mode:
            return
        if blank and not self.params["forming"]:
            self.make_room()
        cluster.start(self.node, self.params["start_seconds"])
        if blank and not self.has_joined():
            # Nobody can have logged in: it has no users yet. With its empty data it would start alone again.
            cluster.stop(self.params["stop_seconds"])
            raise ClusterError(
                f"{self.node} started alone instead of joining {', '.join(self.peers)}, and was stopped. Move "
                f"{self.params['data_dir']}/mnesia away and run again. {cluster.last_error(self.node)}"
            )

    def make_room(self) -> None:
        """Waits for a member to join; the cluster forgets the lost member whose name this blank node takes."""
        # A tool that finds no port mapper would start one outside systemd.
        cluster.systemctl(60, "daemon-reload")
        cluster.systemctl(60, "start", "epmd.socket")
        reasons = ["no member answered"]

        def peer() -> cluster.View | None:
            seen, reasons[0] = cluster.member_view(self.peers)
            return seen

        seen = until(peer, self.params["wait_seconds"], PAUSE_S)
        if seen is None:
            raise ClusterError(
                f"{self.node} has no data and found no member to join within {self.params['wait_seconds']} s, and alone it would "
                f"be a second cluster. Start {' or '.join(self.peers)} first. The last error: {reasons[0][:300]}"
            )
        # The members notice a lost one within net_ticktime.
        if self.node in seen.running and not until(lambda: self.node not in cluster.view(seen.node).running, 60, PAUSE_S):
            raise ClusterError(
                f"{seen.node} is connected to another {self.node}: two machines have this name. Switch the old one off, then run "
                f"again."
            )
        if self.node in seen.members:
            rabbitmq_cli.call("forget_cluster_node", self.node, node=seen.node)
            self.did.insert(0, f"made the cluster forget the lost {self.node}")

    def has_joined(self) -> bool:
        return bool(until(lambda: len(cluster.view().members) > 1, 30, PAUSE_S))

    def restart(self) -> None:
        self.did.append(f"restarted {self.node}, which had read older files")
        if not self.check_mode:
            cluster.stop(self.params["stop_seconds"])
            cluster.start(self.node, self.params["start_seconds"])

    def restarted(self) -> None:
        if not cluster.active() or not rabbitmq_node.restart_due(self.params["files"]):
            return
        if not self.check_mode and len(self.known()) > 1:
            self.drain()
        self.restart()
        if not self.check_mode:
            rabbitmq_cli.call("await_startup", timeout=self.params["start_seconds"])

    def stopped(self) -> None:
        if not cluster.active():
            return
        self.did.append(f"stopped {self.node}")
        if not self.check_mode:
            if len(self.known()) > 1:
                self.drain()
            cluster.stop(self.params["stop_seconds"])

    def drain(self) -> None:
        """Returns once the cluster can do without this node."""
        wait = self.params["wait_seconds"]
        seen = cluster.view()
        # A queue with too few replicas would never have a majority without this node.
        self.did += cluster.grow(seen, seen.running & seen.members, wait)
        try:
            rabbitmq_cli.call("await_online_quorum_plus_one", "-t", str(wait), tool="rabbitmq-upgrade", timeout=wait + 30)
            rabbitmq_cli.call("drain", tool="rabbitmq-upgrade", timeout=wait)
        except rabbitmq_cli.CliError as error:
            down = ", ".join(sorted(seen.members - seen.running)) or "no member"
            raise ClusterError(
                f"{self.node} was not stopped: without it, queues would lose their majority ({down} is down). Start that "
                f"member, or replace its host, then run again. {error}"
            ) from error

    def complete(self) -> None:
        if self.check_mode:
            return
        if not cluster.active():
            raise ClusterError(f"{self.node} does not run. See journalctl -u rabbitmq-server, and run again.")
        wait = self.params["wait_seconds"]
        silent = ""

        def whole() -> bool:
            nonlocal silent
            try:
                self.seen = cluster.view()
            except rabbitmq_cli.CliError as error:  # it has just joined, and is busy
                silent = str(error)
                return False
            return self.seen.members == self.nodes and self.seen.running >= self.nodes

        until(whole, min(wait, 60), PAUSE_S)
        if self.seen is None:
            until(whole, wait, PAUSE_S)  # just started under load, it may be busy for minutes
        if self.seen is None:
            raise ClusterError(f"{self.node} runs, but does not say who the members are: {silent}. Run again.")
        if self.seen.members != self.nodes:
            raise ClusterError(
                f"{self.node} believes that the members are {', '.join(sorted(self.seen.members))}, but the inventory lists "
                f"{', '.join(sorted(self.nodes))}. See the errors of the other brokers above; run again without --limit."
            )
        if down := self.nodes - self.seen.running:
            self.warnings.append(f"{', '.join(sorted(down))} does not run. Start it, or put a new machine under its line.")
        if grown := cluster.grow(self.seen, self.seen.running & self.nodes, wait):
            self.did += grown
            self.seen = cluster.view()
        if not down and not self.seen.balanced:
            rabbitmq_cli.call("rebalance", "quorum", tool="rabbitmq-queues", timeout=wait)
            until(lambda: cluster.view().balanced, 30, PAUSE_S)
            self.did.append("spread the queues' leaders")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["joined", "restarted", "stopped", "complete"], "required": True},
            "node": {"type": "str", "required": True},
            "nodes": {"type": "list", "elements": "str", "required": True},
            "forming": {"type": "bool", "default": False},
            "data_dir": {"type": "path", "required": True},
            "files": {"type": "list", "elements": "path", "required": True},
            "start_seconds": {"type": "int", "default": 180},
            "wait_seconds": {"type": "int", "default": 180},
            "stop_seconds": {"type": "int", "default": 330},
        },
        supports_check_mode=True,
    )
    member = Member(module.params, module.check_mode)
    if not os.access(rabbitmq_cli.CLI, os.X_OK):
        # Check mode on a blank host.
        module.exit_json(changed=module.params["state"] == "joined", actions=[], members=[], running=[])
    try:
        getattr(member, module.params["state"])()
    except (ClusterError, rabbitmq_cli.CliError) as error:
        module.fail_json(msg=str(error), actions=member.did)
    for warning in member.warnings:
        module.warn(warning)
    module.exit_json(
        changed=bool(member.did),
        actions=member.did,
        members=sorted(member.seen.members) if member.seen else [],
        running=sorted(member.seen.running) if member.seen else [],
    )


if __name__ == "__main__":
    main()
