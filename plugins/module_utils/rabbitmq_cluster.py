"""A broker as a member of a cluster: what it, or a peer, knows of the members and of the quorum queues."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import bounded, rabbitmq_cli, rabbitmq_node
from .waiting import until

# Between two looks at a broker: each starts a process.
PAUSE_S = 1.0

# What a node believes. rabbit_nodes has other names for it since 3.12, and a queue's nodes are a map since 4.1.
VIEW = """
    true = rabbit:is_running(),
    Named = fun(New, Old) -> case erlang:function_exported(rabbit_nodes, New, 0) of
        true -> apply(rabbit_nodes, New, []); false -> apply(rabbit_nodes, Old, []) end end,
    Nodes = fun(Q) -> case maps:get(nodes, amqqueue:get_type_state(Q), []) of M when is_map(M) -> maps:keys(M); L -> L end end,
    Leader = fun(Q) -> case amqqueue:get_pid(Q) of {_, N} -> N; _ -> null end end,
    #{node => node(), members => Named(list_members, all), running => Named(list_running, all_running),
      queues => [#{name => element(4, amqqueue:get_name(Q)), vhost => element(2, amqqueue:get_name(Q)),
                   members => Nodes(Q), leader => Leader(Q)}
                 || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) =:= rabbit_quorum_queue]}
"""


class ClusterError(Exception):
    """A message for the operator."""


@dataclass(frozen=True)
class View:
    """What one node believes: the members of its cluster, those that run, and its quorum queues (members and leader)."""

    node: str
    members: frozenset[str]
    running: frozenset[str]
    queues: tuple[dict[str, Any], ...]

    def short_queues(self, nodes: frozenset[str]) -> list[dict[str, Any]]:
        """Quorum queues without a replica on each of the nodes."""
        return [queue for queue in self.queues if nodes - set(queue["members"])]

    @property
    def balanced(self) -> bool:
        """Whether no node leads more queues than `rabbitmq-queues rebalance` would leave it: its share, rounded up."""
        leaders = Counter(queue["leader"] for queue in self.queues)
        return max(leaders.values(), default=0) <= -(-len(self.queues) // max(len(self.running), 1))


def view(node: str = "", timeout: float = 20) -> View:
    """What this host's node, or a peer, believes. A peer answers only if its name resolves and cookie and certificates fit."""
    answer = rabbitmq_cli.ask(VIEW, timeout, node)
    members, running = frozenset(answer["members"]), frozenset(answer["running"])
    return View(answer["node"], members, running, tuple(answer["queues"]))


def member_view(peers: list[str]) -> tuple[View | None, str]:
    """The view of the first peer that answers, or None and why the last one did not."""
    reason = ""
    for peer in peers:
        try:
            return view(peer), ""
        except rabbitmq_cli.CliError as error:
            reason = str(error)
    return None, reason


def systemctl(seconds: float, *arguments: str) -> str:
    """Empty when it succeeded, else why it did not."""
    try:
        done = bounded.run(["systemctl", *arguments], seconds)
    except Exception as error:  # a timeout, or no systemd
        return f"systemctl {' '.join(arguments)}: {error}"
    return "" if done.returncode == 0 else (done.stderr or done.stdout).strip()


def active() -> bool:
    return rabbitmq_node.show(rabbitmq_node.SERVICE, "ActiveState").get("ActiveState") == "active"


def last_error(node: str) -> str:
    """The last lines of the node's log that mention an error, for a sentence."""
    try:
        lines = Path(f"/var/log/rabbitmq/{node}.log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "It wrote no log; see journalctl -u rabbitmq-server."
    lines = [line.strip() for line in lines if line.strip()]
    errors = [line for line in lines[-200:] if "[error]" in line or "[warning]" in line] or lines
    return f"Its log ends: {errors[-1][:300]}" if errors else "Its log is empty; see journalctl -u rabbitmq-server."


def start(node: str, seconds: float) -> None:
    """Starts the broker with a deadline; one that waits for peers would wait for ten minutes, and then again."""
    systemctl(60, "daemon-reload")
    if reason := systemctl(seconds, "start", rabbitmq_node.SERVICE):
        systemctl(60, "kill", "--signal=SIGKILL", rabbitmq_node.SERVICE)
        systemctl(60, "stop", rabbitmq_node.SERVICE)
        raise ClusterError(f"{node} did not start within {seconds:g} s ({reason[:200]}). {last_error(node)}")


def stop(seconds: float) -> None:
    # epmd's socket cannot move while the broker is connected to it; starting the broker starts it too.
    systemctl(60, "daemon-reload")
    if reason := systemctl(seconds, "stop", rabbitmq_node.SERVICE, "epmd.socket"):
        raise ClusterError(
            f"The broker did not stop within {seconds:g} s: {reason}. Run again; see journalctl -u rabbitmq-server."
        )


def grow(current: View, nodes: frozenset[str], seconds: float) -> list[str]:
    """Gives every quorum queue a replica on each of the running nodes; returns what it did."""
    did = []
    for node in sorted(nodes):
        if short := current.short_queues(frozenset({node})):
            rabbitmq_cli.call("grow", node, "all", tool="rabbitmq-queues", timeout=seconds)
            did.append(f"{len(short)} queue(s) got a replica on {node}")
    if did and not until(lambda: not view().short_queues(nodes), seconds, PAUSE_S):
        names = ", ".join(f"{queue['vhost']}/{queue['name']}" for queue in view().short_queues(nodes)[:5])
        raise ClusterError(f"After {seconds:g} s these queues still lack a replica: {names}. Run again once all members run.")
    return did
