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
    return fleet.group("rabbitmq")[0]


def database(fleet: Fleet) -> Host:
    return fleet.group("postgresql")[0]


def worker(fleet: Fleet) -> Host:
    """The worker host that faults strike; the others go on."""
    return fleet.group("celery_workers")[0]


def producer(fleet: Fleet) -> Host:
    """The producer host that faults strike; the other goes on."""
    return fleet.group("producers")[0]
