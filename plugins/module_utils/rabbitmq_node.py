"""The name of this host's broker node, and which version of its files it has read."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
from pathlib import Path

SERVICE = "rabbitmq-server.service"
UNITS = (SERVICE, "epmd.socket")

DATA_DIR = Path("/var/lib/rabbitmq")

# The broker and its tools read the node's name from this file.
ENVIRONMENT = Path("/etc/rabbitmq/rabbitmq-env.conf")

# Digests that the unit's ExecStartPre writes before each start; systemd removes the file when the broker stops.
READ_AT_START = Path("/run/grunnfjell-rabbitmq/files")

NODENAME = re.compile(r"[A-Za-z0-9_-]+@[A-Za-z0-9_.-]+")
SETTING = re.compile(r"""^\s*(?:export\s+)?(?:RABBITMQ_)?NODENAME=["']?([^"'\s#]+)""", re.MULTILINE)


class Unclear(Exception):
    """A message for the operator."""


def show(unit: str, *properties: str) -> dict[str, str]:
    """Properties of a unit; empty where systemd does not answer."""
    command = ["systemctl", "show", *(f"--property={name}" for name in properties), unit]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def nodes_with_data(data_dir: Path) -> list[str]:
    paths = (path for path in (data_dir / "mnesia").glob("*@*") if path.is_dir() and not path.name.endswith("-plugins-expand"))
    return sorted(path.name for path in paths if any(path.iterdir()))


def running(data_dir: Path) -> str | None:
    """The running node, which keeps its name when the host is renamed."""
    pid = show(SERVICE, "MainPID").get("MainPID", "0")
    for file in (data_dir / "mnesia").glob("*@*.pid"):
        if file.read_text(encoding="utf-8", errors="replace").strip() == pid:
            return file.name.removesuffix(".pid")
    return None


def host_name() -> str:
    return socket.gethostname().split(".")[0]


def recorded(environment: Path = ENVIRONMENT) -> str | None:
    """The name in the environment file. Without @host, RabbitMQ adds the host's name."""
    try:
        names = SETTING.findall(environment.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    if not names:
        return None
    return names[-1] if "@" in names[-1] else f"{names[-1]}@{host_name()}"


def resolve(data_dir: Path, wanted: str, written: str | None, current: str) -> str:
    """The node whose data the host has, else the wanted one.

    A node's data is in a directory of its name. Under another name it starts empty, without its queued jobs.
    """
    nodes = nodes_with_data(data_dir)
    if not nodes:
        return wanted
    if written in nodes:
        return str(written)
    mnesia = data_dir / "mnesia"
    if len(nodes) > 1:
        raise Unclear(
            f"{mnesia} holds the data of {' and '.join(nodes)}, but NODENAME in {ENVIRONMENT} names neither. Stop the broker, "
            "move away the directory whose jobs are not needed, and run again."
        )
    if nodes[0] in (wanted, current):
        return nodes[0]
    raise Unclear(
        f"{mnesia} holds only the data of {nodes[0]}, but the broker would start as {wanted} without it. Set rabbitmq_nodename: "
        f"{nodes[0]} for this host to keep its jobs, or move that directory away if nothing in it is needed."
    )


def node_of(data_dir: Path, wanted: str) -> str:
    if not NODENAME.fullmatch(wanted):
        raise Unclear(
            f"rabbitmq_nodename is {wanted!r}, which is not name@host in letters, digits, '-' and '_', e.g. rabbit@broker1."
        )
    written = recorded()
    return resolve(data_dir, wanted, written, running(data_dir) or written or f"rabbit@{host_name()}")


def members(data_dir: Path, node: str) -> list[str]:
    """The members of the node's cluster by its own data; empty for a node that has never finished a start.

    A node that waits for its first peers already lists itself, but has no virtual host.
    """
    if not virtual_hosts(data_dir, node):
        return []
    try:
        text = (data_dir / "mnesia" / node / "cluster_nodes.config").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [node]
    # Erlang's term {AllMembers, DiskMembers}.
    return sorted(set(NODENAME.findall(text))) or [node]


def measured(data_dir: Path = DATA_DIR) -> dict[str, list[str]]:
    """Each node whose data is on this host to the members of its cluster."""
    known = {node: members(data_dir, node) for node in nodes_with_data(data_dir)}
    return {node: peers for node, peers in known.items() if peers}


def virtual_hosts(data_dir: Path, node: str) -> set[str]:
    """The virtual hosts in a node's data, without a call of rabbitmqctl, which takes a second."""
    files = (data_dir / "mnesia" / node).glob("msg_stores/vhosts/*/.vhost")
    return {file.read_text(encoding="utf-8", errors="replace").strip() for file in files}


def feature_flags(data_dir: Path, node: str) -> str | None:
    try:
        return (data_dir / "mnesia" / f"{node}-feature_flags").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def digests(note: Path = READ_AT_START) -> dict[str, str]:
    """The files' digests at the broker's last start, from lines of sha256sum."""
    try:
        lines = note.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def reads_older_files(paths: list[str], note: Path = READ_AT_START) -> bool:
    """Whether a file has changed since the broker started. Modification times are useless once a clock was set."""
    known = digests(note)
    for path in map(Path, paths):
        if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() != known.get(str(path)):
            return True
    return False


def restart_due(paths: list[str]) -> bool:
    """Whether the files of a running broker, or of its port mapper, have changed since its start."""
    if show(SERVICE, "ActiveState").get("ActiveState") != "active":
        return False
    return any(show(unit, "NeedDaemonReload").get("NeedDaemonReload") == "yes" for unit in UNITS) or reads_older_files(paths)
