"""The virtual machines of an inventory: what each is made of, their disks, and removal.

community.libvirt defines and starts them in lab/kvm/create.yml. Each verb reads a list of guests from standard input,
[{"name", "ip", "release", "memory_mib", "cpus", "data_gib"}, ...], and answers on standard output in JSON.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import sites
from lab.addresses import KVM, wrong_addresses
from lab.kvm.image import IMAGES, build, image
from lab.kvm.machine import PACKAGES, STATE, start_daemons, stop_daemons, virsh
from lab.kvm.probe import hypervisor
from lab.machine import Refusal, install_packages
from lab.verbs import serve

PREFIX = "grunnfjell-kvm-"
NETWORK = KVM
NAME = "grunnfjell-kvm"  # of the network and of its bridge, which may have 15 characters
KNOWN_HOSTS = STATE / "known_hosts"
DISKS = IMAGES / "grunnfjell-kvm-disks"


@dataclass(frozen=True)
class Guest:
    name: str
    ip: str
    release: str
    memory_mib: int
    cpus: int
    # A separate disk for the service's data; 0: none.
    data_gib: int = 0

    @property
    def domain(self) -> str:
        return PREFIX + self.name

    @property
    def mac(self) -> str:
        """In QEMU's range, from the guest's address."""
        return "52:54:00:4e:{:02x}:{:02x}".format(*ipaddress.ip_address(self.ip).packed[2:])

    @property
    def disks(self) -> list[dict[str, str]]:
        names = ["root", *(["data"] if self.data_gib else [])]
        devices = [f"vd{letter}" for letter in "ab"[: len(names)]]
        return [
            {"path": str(DISKS / f"{self.domain}-{name}.qcow2"), "device": device}
            for name, device in zip(names, devices, strict=True)
        ]

    def described(self, kind: str) -> dict[str, object]:
        """What the templates read."""
        return {
            "name": self.name,
            "domain": self.domain,
            "ip": self.ip,
            "mac": self.mac,
            "memory_mib": self.memory_mib,
            "cpus": self.cpus,
            "image": str(image(self.release)),
            "kernel_options": "",
            "disks": self.disks,
            "console": f"/var/log/libvirt/qemu/{self.domain}-console.log",
            "hypervisor": kind,
        }


def check(guests: list[Guest]) -> list[str]:
    """Sentences about a list of guests that cannot exist together."""
    return wrong_addresses([(guest.name, guest.ip) for guest in guests], NETWORK)


def network(guests: list[dict[str, object]]) -> dict[str, object]:
    return {
        "name": NAME,
        "bridge": NAME,
        "gateway": str(NETWORK[1]),
        "netmask": str(NETWORK.netmask),
        "guests": guests,
    }


def make_disks(guest: Guest) -> bool:
    """Make missing disks; returns whether there were any. A guest writes to its file on top of the image that all share."""
    DISKS.mkdir(parents=True, exist_ok=True)
    changed = False
    for disk in guest.disks:
        if Path(disk["path"]).exists():
            continue
        if disk["device"] == "vda":
            backing = ["-b", str(image(guest.release) / "disk.raw"), "-F", "raw", disk["path"]]
        else:
            backing = [disk["path"], f"{guest.data_gib}G"]
        command = ["qemu-img", "create", "-q", "-f", "qcow2", *backing]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        if done.returncode:
            raise Refusal(f"{guest.name}'s disk could not be made:\n{done.stderr.strip()}")
        changed = True
    return changed


def prepare(guests: list[Guest]) -> dict[str, object]:
    """Everything before a guest is defined."""
    if sentences := check(guests):
        raise Refusal("\n".join(sentences))
    install_packages(PACKAGES)
    sites.write()
    started = start_daemons()
    # A disk on top of a rebuilt image would be corrupt.
    if not any(domain.startswith(PREFIX) for domain in virsh("list", "--all", "--name").split()):
        shutil.rmtree(DISKS, ignore_errors=True)
        KNOWN_HOSTS.unlink(missing_ok=True)
        for release in sorted({guest.release for guest in guests}):
            build(release, str(NETWORK[1]))
    kind = hypervisor(guests[0].release)
    changed = [guest.name for guest in guests if make_disks(guest)]
    described = [guest.described(kind) for guest in guests]
    return {"changed": bool(started or changed), "hypervisor": kind, "guests": described, "network": network(described)}


def survey(_: list[Guest]) -> dict[str, object]:
    """The guests and the network that exist on this machine, from any checkout."""
    if not shutil.which("virsh") or not shutil.which("libvirtd"):
        return {"domains": [], "network": False}
    start_daemons()
    domains = [domain for domain in virsh("list", "--all", "--name").split() if domain.startswith(PREFIX)]
    return {"domains": domains, "network": NAME in virsh("net-list", "--all", "--name").split()}


def forget(_: list[Guest]) -> dict[str, object]:
    """Remove the guests' disks and stop the daemons that were started for them."""
    existed = DISKS.exists()
    shutil.rmtree(DISKS, ignore_errors=True)
    KNOWN_HOSTS.unlink(missing_ok=True)
    return {"changed": existed, "stopped": stop_daemons()}


def read(entry: dict[str, object]) -> Guest:
    return Guest(
        name=str(entry["name"]),
        ip=str(entry["ip"]),
        release=str(entry["release"]),
        memory_mib=int(entry["memory_mib"]),
        cpus=int(entry["cpus"]),
        data_gib=int(entry.get("data_gib", 0)),
    )


def main() -> None:
    serve({"prepare": prepare, "survey": survey, "forget": forget}, read, STATE, "virtual machines need root")


if __name__ == "__main__":
    main()
