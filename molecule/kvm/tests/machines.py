"""Guests that are rebooted and cut off, and jobs that are followed meanwhile."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

import paramiko

from lab.demo import traffic
from lab.demo.fleet import Fleet, Host
from lab.kvm.machine import URI
from lab.machine import Refusal

# An emulated guest boots in a minute when all do at once on two cores that have other work.
BOOT_S = 420.0
# Celery looks for a lost broker again after 2, 4, 6 … and at most 30 s; emulated programs start slowly.
RESUME_S = 240.0
DONE_S = 540.0

# virsh speaks to the system's libvirt.
AS_ROOT = ["sudo", "--non-interactive"] if os.geteuid() else []


def until(what: str, look: Callable[[], object], seconds: float):
    """The first answer that is true; fails with the last one."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:.0f} s; last seen: {seen!r}"
        time.sleep(0.5)  # between two looks; the deadline ends them
    return seen


class Guest:
    """A host that may be gone for a while: each question goes over a connection that works, or answers nothing."""

    def __init__(self, host: Host) -> None:
        self.name = host.name
        self.host = host

    def run(self, script: str, timeout_s: float = 120) -> str:
        return self.host.run(["sh", "-c", script], timeout_s=timeout_s)

    def ask(self, script: str) -> str:
        """The answer over a new connection; nothing while there is none."""
        try:
            self.host = replace(self.host)
            return self.run(script)
        except (Refusal, OSError, EOFError, paramiko.SSHException):
            return ""

    def boot(self) -> str:
        return self.run("cat /proc/sys/kernel/random/boot_id").strip()

    def reboot(self) -> str:
        """Begin a reboot; answers which boot was left."""
        before = self.boot()
        self.run("systemctl reboot --no-block")
        return before

    def cut(self) -> str:
        """Take the power away and give it back; answers which boot was left."""
        before = self.boot()
        command = [*AS_ROOT, "virsh", "--connect", URI, "reset", f"grunnfjell-kvm-{self.name}"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return before

    def wait_for_boot_after(self, before: str) -> None:
        """Wait until another boot has ended, with every unit up."""

        def look() -> str:
            now = self.ask("cat /proc/sys/kernel/random/boot_id").strip()
            return now if now != before else ""

        until(f"another boot of {self.name}", look, BOOT_S)
        state = until(
            f"the end of {self.name}'s boot", lambda: self.ask("systemctl is-system-running --wait || true").strip(), BOOT_S
        )
        assert state == "running", self.ask("systemctl --failed --no-legend; journalctl -b -p warning -n 30 --no-pager")


def guests(site: Fleet) -> dict[str, list[Guest]]:
    """The guests of each group; one guest is one object, whichever group it is asked in."""
    each = {host.name: Guest(host) for host in site.hosts}
    names = {group for host in site.hosts for group in host.groups}
    return {group: [each[host.name] for host in site.hosts if group in host.groups] for group in names} | {
        "all": list(each.values())
    }


def ended(answer: traffic.Answer, seconds: float = DONE_S) -> dict:
    assert answer.status == 202, answer

    def look() -> dict | None:
        told = traffic.look(answer.location)
        return told if told.get("state") in ("done", "failed") else None

    return until(f"the end of {answer.location}", look, seconds)


def transcoding(worker: Guest, answer: traffic.Answer) -> str:
    """The process that transcodes this job; its key stands in the names of the files."""
    key = answer.location.rsplit("/", 1)[1]
    return until(f"the transcoding of {key}", lambda: worker.run(f"pgrep -f '^ffmpeg .*{key}' || true").split(), RESUME_S)[0]


def programs_run(guest: Guest) -> bool:
    """Whether supervisord says of every program that it runs."""
    lines = guest.ask("supervisorctl status || true").splitlines()
    return bool(lines) and all(line.split()[1] == "RUNNING" for line in lines)
