"""Virtual machines that tests reboot and power-cycle, and jobs that they follow meanwhile."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace

import paramiko
from deadline import until

from lab.demo import traffic, videos
from lab.demo.fleet import Fleet, Host
from lab.kvm.machine import URI
from lab.machine import Refusal

# All emulated guests at once, on two busy cores, boot in about a minute.
BOOT_S = 420.0
# Celery looks for a lost broker again after 2, 4, 6 … and at most 30 s; emulated programs start slowly.
RESUME_S = 240.0
DONE_S = 540.0

# virsh speaks to the system's libvirt.
AS_ROOT = ["sudo", "--non-interactive"] if os.geteuid() else []


SHORT = videos.Video("kvm-short", (160, 120), 1, (160, 120))


class Guest:
    """A host that may be down for a while."""

    def __init__(self, host: Host) -> None:
        self.name = host.name
        self.host = host

    def run(self, script: str, timeout_s: float = 120) -> str:
        return self.host.run(["sh", "-c", script], timeout_s=timeout_s)

    def ask(self, script: str) -> str:
        """The output over a new connection; empty while the guest is unreachable."""
        try:
            self.host = replace(self.host)
            return self.run(script)
        except (Refusal, OSError, EOFError, paramiko.SSHException):
            return ""

    def boot(self) -> str:
        return self.run("cat /proc/sys/kernel/random/boot_id").strip()

    def reboot(self) -> str:
        """Begin a reboot; return the id of the boot that ends."""
        before = self.boot()
        self.run("systemctl reboot --no-block")
        return before

    def cut(self) -> str:
        """Cut the power and restore it; return the id of the boot that ends."""
        before = self.boot()
        command = [*AS_ROOT, "virsh", "--connect", URI, "reset", f"grunnfjell-kvm-{self.name}"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return before

    def wait_for_boot_after(self, before: str) -> None:
        """Wait until another boot is complete, with every unit up."""

        def look() -> str:
            now = self.ask("cat /proc/sys/kernel/random/boot_id").strip()
            return now if now != before else ""

        until(f"another boot of {self.name}", look, BOOT_S)
        state = until(
            f"the end of {self.name}'s boot", lambda: self.ask("systemctl is-system-running --wait || true").strip(), BOOT_S
        )
        assert state == "running", self.ask("systemctl --failed --no-legend; journalctl -b -p warning -n 30 --no-pager")


def guests(site: Fleet) -> dict[str, list[Guest]]:
    """The guests of each group, and of the group "all"."""
    machines = {host.name: Guest(host) for host in site.hosts}
    groups = {group for host in site.hosts for group in host.groups}
    members = {group: [machines[host.name] for host in site.hosts if group in host.groups] for group in groups}
    return members | {"all": list(machines.values())}


def ended(answer: traffic.Answer, seconds: float = DONE_S) -> dict:
    assert answer.status == 202, answer

    def look() -> dict | None:
        job = traffic.look(answer.location)
        return job if job.get("state") in ("done", "failed") else None

    return until(f"the end of {answer.location}", look, seconds)


def assert_work_resumes(send: Callable[[videos.Video], traffic.Answer]) -> None:
    """A new upload is accepted before long, and its job done."""
    answer = until("a 202", lambda: (answer := send(SHORT)).status == 202 and answer, RESUME_S)
    assert ended(answer)["state"] == "done"


def transcoding(worker: Guest, answer: traffic.Answer) -> str:
    """The process that transcodes this job; its key is in the file names."""
    key = answer.location.rsplit("/", 1)[1]
    return until(f"the transcoding of {key}", lambda: worker.run(f"pgrep -f '^ffmpeg .*{key}' || true").split(), RESUME_S)[0]


def programs_run(guest: Guest) -> bool:
    """Whether supervisord reports every program as RUNNING."""
    lines = guest.ask("supervisorctl status || true").splitlines()
    return bool(lines) and all(line.split()[1] == "RUNNING" for line in lines)
