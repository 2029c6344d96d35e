"""The guests of an inventory: what each is made of, the disks that they stand on, and removal.

Defining and starting them is left to community.libvirt in lab/kvm/create.yml. Each verb reads the list of guests from its
standard input, [{"name", "ip", "release", "memory_mib", "cpus", "data_gib"}, ...], and answers on standard output in JSON.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import places
from lab.kvm.image import IMAGES, build, image
from lab.kvm.machine import PACKAGES, STATE, start_daemons, stop_daemons, virsh
from lab.kvm.probe import hypervisor
from lab.machine import Refusal, install_packages
from lab.verbs import serve

PREFIX = "grunnfjell-kvm-"
NETWORK = ipaddress.ip_network("10.78.0.0/24")
BRIDGE = "grunnfjell-kvm"[:15]
KNOWN_HOSTS = STATE / "known_hosts"
DISKS = IMAGES / "grunnfjell-kvm-disks"


@dataclass(frozen=True)
class Guest:
    name: str
    ip: str
    release: str
    memory_mib: int
    cpus: int
    # A disk of its own for the service's data; 0: none.
    data_gib: int = 0

    @property
    def domain(self) -> str:
        return PREFIX + self.name

    @property
    def mac(self) -> str:
        """An address of QEMU's own range that follows from the guest's place in the network."""
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
    """Sentences about a list of guests that cannot stand together."""
    sentences = []
    taken: dict[str, str] = {}
    for guest in guests:
        try:
            address = ipaddress.ip_address(guest.ip)
        except ValueError:
            sentences.append(f"{guest.name}: ansible_host is {guest.ip}; write an address of {NETWORK} into hosts.yml.")
            continue
        if address not in NETWORK or address in (NETWORK[0], NETWORK[1], NETWORK[-1]):
            sentences.append(
                f"{guest.name}: ansible_host is {guest.ip}; write one between {NETWORK[2]} and {NETWORK[-2]} into hosts.yml."
            )
        if guest.ip in taken:
            sentences.append(
                f"{guest.name} and {taken[guest.ip]} both have the address {guest.ip}; give one another in hosts.yml."
            )
        taken[guest.ip] = guest.name
    return sentences


def network(guests: list[dict[str, object]]) -> dict[str, object]:
    return {
        "name": "grunnfjell-kvm",
        "bridge": BRIDGE,
        "gateway": str(NETWORK[1]),
        "netmask": str(NETWORK.netmask),
        "guests": guests,
    }


def make_disks(guest: Guest) -> bool:
    """Disks that are not there yet: what a guest writes goes to a file of its own, upon the image that all share."""
    DISKS.mkdir(parents=True, exist_ok=True)
    made = False
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
        made = True
    return made


def prepare(guests: list[Guest]) -> dict[str, object]:
    """Everything that comes before a guest is defined."""
    if sentences := check(guests):
        raise Refusal("\n".join(sentences))
    install_packages(PACKAGES)
    places.write()
    started = start_daemons()
    # A disk upon an image that was built anew would be a guest of two halves.
    if not any(domain.startswith(PREFIX) for domain in virsh("list", "--all", "--name").split()):
        shutil.rmtree(DISKS, ignore_errors=True)
        KNOWN_HOSTS.unlink(missing_ok=True)
        for release in sorted({guest.release for guest in guests}):
            build(release, str(NETWORK[1]))
    kind = hypervisor(guests[0].release)
    made = [guest.name for guest in guests if make_disks(guest)]
    described = [guest.described(kind) for guest in guests]
    return {"changed": bool(started or made), "hypervisor": kind, "guests": described, "network": network(described)}


def survey(_: list[Guest]) -> dict[str, object]:
    """What stands of it on this machine, whoever made it."""
    if not shutil.which("virsh") or not shutil.which("libvirtd"):
        return {"domains": [], "network": False}
    start_daemons()
    domains = [domain for domain in virsh("list", "--all", "--name").split() if domain.startswith(PREFIX)]
    return {"domains": domains, "network": "grunnfjell-kvm" in virsh("net-list", "--all", "--name").split()}


def forget(_: list[Guest]) -> dict[str, object]:
    """Remove the guests' disks and stop what was started for them."""
    there = DISKS.exists()
    shutil.rmtree(DISKS, ignore_errors=True)
    KNOWN_HOSTS.unlink(missing_ok=True)
    return {"changed": there, "stopped": stop_daemons()}


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
