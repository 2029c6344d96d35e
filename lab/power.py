"""Hosts of the lab whose power can be cut: each has a separate file system, which ends without being flushed.

The hosts share this machine's memory, so killing one loses no write. ext4 can be shut down in such a way that all that was not
flushed is lost: pages, and the journal's last transactions. Its next mount finds what a disk has after a power cut.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

from lab.containers import PREFIX, remove_containers
from lab.machine import Refusal, install_packages, podman
from lab.progress import Progress

DISKS = Path("/var/lib/grunnfjell-disks")
# Sparse: it takes only what is written to it.
SIZE = "10G"
# Linux, include/uapi/linux/ext4.h: EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
SHUTDOWN, WITHOUT_FLUSH = 0x8004587D, struct.pack("I", 2)


def disk(name: str) -> Path:
    return DISKS / f"{name}.ext4"


def root(name: str) -> Path:
    return DISKS / name


def give_disk(name: str) -> None:
    """Move the host's files from podman's storage to a separate file system; the container is made as before otherwise."""
    container = PREFIX + name
    made_by = json.loads(podman("inspect", "--format", "{{json .Config.CreateCommand}}", container).stdout)
    if "--rootfs" in made_by:
        return
    install_packages({"e2fsprogs": "/usr/sbin/mke2fs"})
    remove([name])
    DISKS.mkdir(parents=True, exist_ok=True)
    with Progress(f"lab: {name} gets a separate file system"):
        podman("stop", container)
        run("mke2fs", "-q", "-t", "ext4", "-d", podman("mount", container).stdout.strip(), str(disk(name)), SIZE)
        podman("unmount", container)
        remove_containers([container])
        mount(name)
        podman(*with_root(made_by, root(name)))


def with_root(command: list[str], files: Path) -> list[str]:
    """podman's arguments for the same container with these files instead of its image, the last argument.

    >>> with_root(["podman", "container", "run", "--name", "db1", "debian:13"], Path("/disks/db1"))
    ['container', 'run', '--name', 'db1', '--rootfs', '/disks/db1', '/sbin/init']
    """
    return [*command[1:-1], "--rootfs", str(files), "/sbin/init"]


def mount(name: str) -> None:
    root(name).mkdir(exist_ok=True)
    run("mount", "-o", "loop", str(disk(name)), str(root(name)))


def cut(name: str) -> None:
    """First its network, since a killed program's connections would be closed, which a host without power does not do."""
    pid = podman("inspect", "--format", "{{.State.Pid}}", PREFIX + name).stdout.strip()
    run("nsenter", "--target", pid, "--net", "ip", "link", "set", "eth0", "down")
    shut_down(root(name))
    podman("kill", PREFIX + name)
    podman("wait", PREFIX + name)
    run("umount", str(root(name)))


def shut_down(files: Path) -> None:
    """Every further access to the file system fails."""
    directory = os.open(files, os.O_RDONLY)
    try:
        fcntl.ioctl(directory, SHUTDOWN, WITHOUT_FLUSH)
    finally:
        os.close(directory)


def restore(name: str) -> None:
    mount(name)
    podman("start", PREFIX + name)


def remove(names: list[str]) -> None:
    """The disks of these hosts, whose containers are gone; of all if none is named."""
    for path in DISKS.glob("*.ext4"):
        if not names or path.stem in names:
            if root(path.stem).is_mount():
                run("umount", str(root(path.stem)))
            shutil.rmtree(root(path.stem), ignore_errors=True)
            path.unlink()


def run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
