"""The lab's hosts as podman runs them: what each is made of, which exist, their limits and their removal."""

from __future__ import annotations

import ipaddress
import json
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab.addresses import INSIDE_NETWORK, LAB_NETWORK, NETWORKS
from lab.machine import REPOSITORY, podman

PREFIX = "grunnfjell-"


@dataclass(frozen=True)
class Host:
    name: str
    ip: str
    image: str
    memory: str
    # The address in the second network, which the fleet uses; empty for a host with one network.
    inside: str = ""
    # An address in addresses.IPV6 beside `ip`; empty for a host without one.
    ipv6: str = ""
    account: str = "root"
    port: int = 22
    # Whether the account's sudo asks for a password, the one in access.BECOME_PASSWORD.
    sudo_password: bool = False

    @property
    def container(self) -> str:
        return PREFIX + self.name

    @property
    def mac(self) -> str:
        """Stays the same through a reboot, as on a real host; podman would choose another one, but neighbours cache it."""
        return ":".join(f"{byte:02x}" for byte in (0x02, 0x67, *ipaddress.IPv4Address(self.ip).packed))

    @property
    def made_as(self) -> str:
        return " ".join(filter(None, (self.ip, self.image, self.memory, self.inside, self.ipv6)))

    @property
    def networks(self) -> list[str]:
        """As podman takes them; the default route is in the first."""
        inside = [f"{INSIDE_NETWORK}:ip={self.inside}"] if self.inside else []
        return [f"{LAB_NETWORK}:ip={self.ip},mac={self.mac}", *inside]

    @property
    def known_as(self) -> list[str]:
        """Its names in known_hosts."""
        return [ip if self.port == 22 else f"[{ip}]:{self.port}" for ip in (self.ip, self.inside, self.ipv6) if ip]


@dataclass(frozen=True)
class Container:
    name: str
    state: str
    alive: bool
    made_as: str
    checkout: str
    known_as: tuple[str, ...] = ()


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not; where PID 1 reaps no children, it keeps its entry."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return pid > 0 and status.rpartition(")")[2].split()[0] not in "ZX"


def containers() -> list[Container]:
    listing = json.loads(podman("ps", "--all", "--filter", "label=grunnfjell.checkout", "--format", "json").stdout or "[]")
    return [
        Container(
            name=entry["Names"][0],
            state=entry["State"],
            alive=alive(int(entry.get("Pid") or 0)),
            made_as=entry["Labels"].get("grunnfjell.made-as", ""),
            checkout=entry["Labels"]["grunnfjell.checkout"],
            known_as=tuple(entry["Labels"].get("grunnfjell.known-as", "").split()),
        )
        for entry in listing
    ]


def remove_containers(names: list[str]) -> None:
    if not names:
        return
    ids = podman("inspect", "--format", "{{.Id}}", *names, check=False).stdout.split()
    # Twice: podman may fail once for a container whose processes vanished, and succeeds afterwards.
    for last in (False, True):
        podman("rm", "--force", "--ignore", "--time", "0", *names, check=last)
    for leftover in (path for path in Path("/run/runc").glob("*") if path.name in ids):
        # podman forgets the runtime's record of such a container, with its cgroups.
        subprocess.run(["runc", "delete", "--force", leftover.name], capture_output=True, check=False)


def unused_networks() -> list[str]:
    existing = [name for name in NETWORKS if podman("network", "exists", name, check=False).returncode == 0]
    return [name for name in existing if not podman("ps", "--all", "--filter", f"network={name}", "--quiet").stdout.split()]


def bridge(network: str) -> str:
    """This machine's device in the network."""
    return json.loads(podman("network", "inspect", network).stdout)[0]["network_interface"]


# What a star in the name of a kernel setting means in a container.
INTERFACES = ("all", "default", "lo", "eth0")


def network_settings() -> dict[str, str]:
    """The kernel settings of role host's defaults that belong to a network namespace.

    A container's /proc/sys is read-only, because its kernel is the machine's. Only the settings of its network can be given.
    """
    defaults = yaml.safe_load((REPOSITORY / "roles/host/defaults/main.yml").read_text(encoding="utf-8"))
    settings = {
        key.replace("*", interface): str(value)
        for key, value in defaults["host_sysctl"].items()
        for interface in INTERFACES
        if key.startswith(("net.ipv4.", "net.ipv6."))
    }

    def known(key: str) -> bool:
        # This machine's interfaces have other names.
        return Path("/proc/sys", *key.replace("eth0", "default").split(".")).exists()

    return {key: value for key, value in settings.items() if known(key)}


def ulimits() -> list[str]:
    """This machine's hard limits: podman asks for more by default, and not every root may raise them."""
    # podman lowers its limit of processes to the highest process number, and cannot raise it again.
    ceilings = {"nofile": 1048576, "nproc": int(Path("/proc/sys/kernel/pid_max").read_text(encoding="utf-8"))}
    limits = []
    for name, ceiling in ceilings.items():
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
        limit = ceiling if hard == resource.RLIM_INFINITY else min(hard, ceiling)
        limits.append(f"{name}={limit}:{limit}")
    return limits
