"""Containers of the lab that go on as virtual machines: the same files, name, address and SSH keys, on a kernel of their own.

Emulated guests take more than an hour for site.yml, containers a few minutes. The guests are in the lab's network, so the
fleet's other hosts, which stay containers, reach them as before.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import containers
from lab.addresses import LAB_NETWORK, NETWORKS
from lab.deadlines import until
from lab.kvm.guests import DISKS, Guest
from lab.kvm.image import DISK_SIZE, INITRAMFS, KERNEL, files_of_a_machine, finish_root, run, write_files
from lab.kvm.machine import PACKAGES, STATE, start_daemons, virsh
from lab.kvm.probe import hypervisor, rendered
from lab.machine import install_packages, podman
from lab.progress import Progress

MEMORY_MIB = 3072
# For a program to end.
END_S = 30.0
# The container's services end like those of a host that shuts down.
STOP_S = 300
# The guest's disk. Like a drive's own cache, this program's loses with the power what was not flushed, and it ends with QEMU.
DISK = ("nbdkit", "--filter=exitlast", "--filter=cache", "file")
CACHE = ("cache=writeback", "cache-min-block-size=4096")

ADDRESS = """\
[Match]
Type=ether

[Network]
Address={address}/{length}
Gateway={gateway}
LinkLocalAddressing=no
IPv6AcceptRA=no
"""
INSTALL = f"""\
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends {" ".join(KERNEL)}
"""


@dataclass(frozen=True)
class Moved(Guest):
    """A guest in the containers' network, with a kernel and a disk of its own."""

    @property
    def home(self) -> Path:
        return DISKS / self.domain

    @property
    def container(self) -> str:
        return containers.PREFIX + self.name

    @property
    def mac(self) -> str:
        """The container's: its neighbours know it."""
        return containers.Host(self.name, self.ip, "", "").mac

    @property
    def disks(self) -> list[dict[str, str]]:
        return [{"path": str(self.home / "disk.raw"), "device": "vda", "socket": str(self.home / "disk.sock")}]

    def described(self, kind: str) -> dict[str, object]:
        # The container's interface is eth0 too.
        options = {"image": str(self.home), "bridge": containers.bridge(LAB_NETWORK), "kernel_options": "net.ifnames=0"}
        return super().described(kind) | options


def moved(name: str, ip: str) -> Moved:
    return Moved(name, ip, release="", memory_mib=MEMORY_MIB, cpus=1)


def is_moved(name: str) -> bool:
    return moved(name, "").home.exists()


def move(guests: list[Moved]) -> None:
    """End the containers and start the guests; those that were moved before only start, if they do not run."""
    install_packages(PACKAGES | {"nbdkit": "/usr/bin/nbdkit"})
    start_daemons()
    for guest in guests:
        if not guest.home.exists():
            make_disk(guest)
    kind = hypervisor(guests[0].home)
    running = virsh("list", "--name").split()
    for guest in guests:
        if guest.domain not in running:
            definition = guest.home / "domain.xml"
            definition.write_text(rendered("domain.xml.j2", guest=guest.described(kind)), encoding="utf-8")
            virsh("define", str(definition))
            power_on(guest)


def make_disk(guest: Moved) -> None:
    """Give the container a kernel, stop it, make a disk of its files, and remove it."""
    network = NETWORKS[LAB_NETWORK]
    address = ADDRESS.format(address=guest.ip, length=network.prefixlen, gateway=network[1])
    root = Path(podman("mount", guest.container).stdout.strip())
    write_files(root, INITRAMFS)
    unfinished = guest.home.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    STATE.mkdir(parents=True, exist_ok=True)
    log = STATE / f"{guest.name}.log"
    with Progress(f"kvm: {guest.name} becomes a virtual machine") as progress, log.open("w", encoding="utf-8") as out:
        progress.step = "installing a kernel"
        podman("exec", guest.container, "sh", "-euc", INSTALL)
        # podman mounts these into a container.
        mounted = {path: podman("exec", guest.container, "cat", f"/{path}").stdout for path in ("etc/hosts", "etc/resolv.conf")}
        mounted |= {"etc/hostname": f"{guest.name}\n", "etc/systemd/network/10-lab.network": address}
        progress.step = "stopping the container"
        podman("stop", "--time", str(STOP_S), guest.container)
        shutil.rmtree(root / "etc/systemd/system-generators", ignore_errors=True)
        finish_root(root, files_of_a_machine(str(network[1])) | mounted, out, log)
        for name in ("vmlinuz", "initrd.img"):
            shutil.copyfile((root / name).resolve(), unfinished / name)
        progress.step = "writing the file system"
        run(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(unfinished / "disk.raw"), DISK_SIZE], out, log)
    podman("unmount", guest.container)
    containers.remove_containers([guest.container])
    unfinished.rename(guest.home)


def power_on(guest: Moved) -> None:
    disk = guest.disks[0]
    Path(disk["socket"]).unlink(missing_ok=True)
    # QEMU's account may not be root.
    subprocess.run([*DISK[:-1], "--unix", disk["socket"], DISK[-1], disk["path"], *CACHE], check=True, umask=0o111)
    virsh("start", guest.domain)


def cut_power(guest: Moved) -> None:
    """`virsh destroy` would let QEMU flush the disk, so QEMU is killed. Its memory, with every page of the guest's, is gone."""
    os.kill(int(Path(f"/run/libvirt/qemu/{guest.domain}.pid").read_text(encoding="utf-8")), signal.SIGKILL)
    until(f"the end of {guest.domain}", lambda: guest.domain not in virsh("list", "--name").split(), END_S)
