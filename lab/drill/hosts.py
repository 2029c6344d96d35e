"""The fleet as the drill handles it: what runs where, and a way in that a cut network does not cut."""

from __future__ import annotations

import subprocess

from lab.demo.fleet import Fleet, Host
from lab.hosts import PREFIX
from lab.machine import Refusal, podman


def container(host: Host) -> str:
    return PREFIX + host.name


def shell(host: Host, script: str, stdin: str | None = None) -> str:
    """Run a script as root. Through podman, so that it also runs on a host that the network no longer reaches."""
    interactive = [] if stdin is None else ["--interactive"]
    done = podman("exec", *interactive, container(host), "sh", "-euc", script, input=stdin, check=False)
    if done.returncode:
        raise Refusal(f"{host.name}: {script.strip()} failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def shell_of_machine(host: Host, script: str) -> None:
    """The same with this machine's capabilities: a host may not mount anything."""
    pid = podman("inspect", "--format", "{{.State.Pid}}", container(host)).stdout.strip()
    enter = ["nsenter", "--target", pid, "--mount", "--pid", "--net", "--ipc", "--uts"]
    done = subprocess.run([*enter, "sh", "-euc", script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(f"{host.name}: {script.strip()} failed:\n{done.stderr.strip() or done.stdout.strip()}")


def broker(fleet: Fleet) -> Host:
    return fleet.group("rabbitmq")[0]


def database(fleet: Fleet) -> Host:
    return fleet.group("postgresql")[0]


def worker(fleet: Fleet) -> Host:
    """The worker host that is hurt; the others go on."""
    return fleet.group("celery_workers")[0]


def producer(fleet: Fleet) -> Host:
    """The producer host that is hurt; the other goes on."""
    return fleet.group("producers")[0]
