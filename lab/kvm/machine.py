"""What virtual machines need on this machine: libvirt, QEMU, and the daemons if systemd does not start them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from lab.containers import alive
from lab.deadlines import poll
from lab.machine import BUILD, Refusal

STATE = BUILD / "kvm"
URI = "qemu:///system"
DAEMON_DEADLINE_S = 30.0

PACKAGES = {
    "libvirt-daemon-system": "/var/lib/libvirt/qemu",
    "libvirt-clients": "/usr/bin/virsh",
    "qemu-system-x86": "/usr/bin/qemu-system-x86_64",
    "qemu-utils": "/usr/bin/qemu-img",
    "dnsmasq-base": "/usr/sbin/dnsmasq",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "e2fsprogs": "/usr/sbin/mke2fs",
    # community.libvirt runs with Debian's Python: PyPI's binding is built from source, against headers that nothing else needs.
    "python3-libvirt": "/usr/lib/python3/dist-packages/libvirt.py",
    "python3-lxml": "/usr/lib/python3/dist-packages/lxml",
    # The demo makes videos.
    "ffmpeg": "/usr/bin/ffmpeg",
}

# In the order of their start: libvirtd hands the guests' consoles to virtlogd.
DAEMONS = ("virtlogd", "libvirtd")


def virsh(*arguments: str, check: bool = True, timeout_s: float = 120) -> str:
    command = ["virsh", "--quiet", "--connect", URI, *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, capture_output=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Refusal(f"`virsh {' '.join(arguments)}` gave no answer within {timeout_s:.0f} s.") from None
    if check and done.returncode:
        raise Refusal(f"`virsh {' '.join(arguments)}` failed:\n{done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else ""


def pid_file(daemon: str) -> Path:
    return STATE / f"{daemon}.pid"


def answers() -> bool:
    return bool(virsh("version", check=False))


def admit_to_kvm(device: Path = Path("/dev/kvm")) -> None:
    """Give the device to its group, as udev does.

    If only root may open it, KVM works for libvirt but not for QEMU's account, and libvirt asks QEMU for its capabilities again
    at each step, for seconds.
    """
    if device.exists() and device.stat().st_gid == 0:
        shutil.chown(device, group="kvm")
        os.chmod(device, 0o660)


def start_daemons() -> list[str]:
    """Start libvirt unless it runs already; returns what was started, which stop_daemons ends."""
    if answers():
        return []
    STATE.mkdir(parents=True, exist_ok=True)
    admit_to_kvm()
    started = []
    for daemon in DAEMONS:
        if not running(daemon):
            done = subprocess.run(
                [daemon, "--daemon", "--pid-file", str(pid_file(daemon))],
                stdin=subprocess.DEVNULL, text=True, capture_output=True, check=False,
            )  # fmt: skip
            if done.returncode and daemon == DAEMONS[-1]:
                raise Refusal(f"{daemon} does not start:\n{done.stderr.strip()}")
            started.append(daemon)
    if not poll(answers, DAEMON_DEADLINE_S):
        raise Refusal(f"libvirtd was started but did not answer at {URI} within {DAEMON_DEADLINE_S:.0f} s.")
    return started


def running(daemon: str) -> int:
    """The process that was started here, or 0; its number may belong to another program by now."""
    try:
        pid = int(pid_file(daemon).read_text(encoding="utf-8"))
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return 0
    return pid if name == daemon and alive(pid) else 0


def stop_daemons() -> list[str]:
    stopped = []
    for daemon in reversed(DAEMONS):
        if pid := running(daemon):
            subprocess.run(["kill", str(pid)], check=False)
            poll(lambda ended=daemon: not running(ended), DAEMON_DEADLINE_S)
            stopped.append(daemon)
        pid_file(daemon).unlink(missing_ok=True)
    return stopped
