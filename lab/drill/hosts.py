"""The drill's hosts, and shells on them that do not need the network."""

from __future__ import annotations

import subprocess

from lab.containers import PREFIX
from lab.demo.fleet import Fleet, Host
from lab.machine import Refusal, podman


def container(host: Host) -> str:
    return PREFIX + host.name


def output_of(host: Host, script: str, done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise Refusal(f"{host.name}: {script.strip()} failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def shell(host: Host, script: str, stdin: str | None = None) -> str:
    """Run a script as root, through podman: the network may not reach the host."""
    interactive = [] if stdin is None else ["--interactive"]
    done = podman("exec", *interactive, container(host), "sh", "-euc", script, input=stdin, check=False)
    return output_of(host, script, done)


def machine_shell(host: Host, script: str) -> None:
    """The same with this machine's capabilities: a host may not mount anything."""
    pid = podman("inspect", "--format", "{{.State.Pid}}", container(host)).stdout.strip()
    enter = ["nsenter", "--target", pid, "--mount", "--pid", "--net", "--ipc", "--uts"]
    output_of(host, script, subprocess.run([*enter, "sh", "-euc", script], capture_output=True, text=True, check=False))


def broker(fleet: Fleet) -> Host:
    """A broker that runs; of a cluster, any answers for all."""
    return first("rabbitmq", fleet, "rabbitmqctl -q ping")


def database(fleet: Fleet) -> Host:
    """The server that takes writes."""
    return first("postgresql", fleet, "runuser -u postgres -- psql -XAtc 'SELECT pg_is_in_recovery()' | grep -qx f")


# Group to the name of the host that was found there last: it is tried first, since each look takes a second on a busy machine.
_last: dict[str, str] = {}


def first(group: str, fleet: Fleet, script: str) -> Host:
    """The only host of the group, or the first one where the script succeeds."""
    members = [host for host in fleet.group(group) if not host.replaced]
    if len(members) == 1:
        return members[0]
    reasons = []
    for host in sorted(members, key=lambda host: host.name != _last.get(group)):
        try:
            shell(host, script)
        except Refusal as refusal:
            reasons.append(str(refusal))
        else:
            _last[group] = host.name
            return host
    raise Refusal("\n".join(reasons))


def worker(fleet: Fleet) -> Host:
    """The worker host that faults strike; the others go on."""
    return fleet.group("celery_workers")[0]


def producer(fleet: Fleet) -> Host:
    """The producer host that faults strike; the other goes on."""
    return fleet.group("producers")[0]
