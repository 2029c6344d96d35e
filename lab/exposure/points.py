"""The places from which the lab is looked at: every host, the machine that administers it, and a stranger on the same network."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lab.hosts import INSIDE, INSIDE_NETWORK, NETWORK, PREFIX
from lab.machine import Refusal, podman

CONTROLLER = "controller"
OUTSIDE = "outside"
NETWORKS = {"grunnfjell": NETWORK, INSIDE_NETWORK: INSIDE}
# Its address on the link, given instead of made up, so that it need not be asked for on the network first and is there at once.
STRANGERS_LINK = "fe80::67:ff"
# Another network's namespace is root's to enter.
AS_ROOT = ["sudo", "--non-interactive", "--preserve-env"] if os.geteuid() else []


@dataclass(frozen=True)
class Point:
    """Somewhere to look from. `enter` comes in front of a command that is to run there; nothing is installed there."""

    name: str
    address: str
    enter: tuple[str, ...] = ()

    def there(self, command: Sequence[str]) -> list[str]:
        """The command as it is called here. It sees the files of this machine, and the network of that place."""
        return [*(AS_ROOT if self.enter else []), *self.enter, *command]

    def run(self, command: Sequence[str], stdin: str = "", timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.there(command), text=True, capture_output=True, input=stdin, timeout=timeout_s, check=False)


def host_points(addresses: dict[str, str]) -> list[Point]:
    """A point for each of the lab's hosts, by the network namespace of its container."""
    names = [PREFIX + name for name in addresses]
    said = json.loads(podman("inspect", *names).stdout)
    pids = {entry["Name"]: entry["State"]["Pid"] for entry in said if entry["State"]["Running"]}
    if missing := [name for name in names if name not in pids]:
        raise Refusal(f"these hosts of the lab do not run: {', '.join(missing)}; `make lab` starts them.")
    return [
        Point(name, address, ("nsenter", "--net", "--target", str(pids[PREFIX + name]))) for name, address in addresses.items()
    ]


def network_of(addresses: Sequence[str]) -> str:
    """The network of the lab that all of these hosts talk by; a scan is for the lab's hosts only, whatever an inventory says."""
    for name, network in NETWORKS.items():
        if all(ipaddress.ip_address(address) in network for address in addresses):
            return name
    raise Refusal(
        f"{', '.join(addresses)}: only hosts of the lab are scanned, all in {' or all in '.join(map(str, NETWORKS.values()))}."
    )


def controller(network: str = "grunnfjell") -> Point:
    return Point(CONTROLLER, str(NETWORKS[network][1]))


def bridge(network: str) -> str:
    return json.loads(podman("network", "inspect", network).stdout)[0]["network_interface"]


@dataclass(frozen=True)
class Link:
    """A point's device, and its IPv6 address for that link alone: every machine has one, whether somebody thought of IPv6 or not.

    address: empty where the machine has no IPv6 at all.
    """

    device: str
    address: str


def link_in(said: str, address: str) -> Link | None:
    """What `ip -j address` tells of the device that has the address; None while its IPv6 address is not usable yet."""
    (device,) = (entry for entry in json.loads(said) if any(info.get("local") == address for info in entry.get("addr_info", [])))
    own = [info for info in device["addr_info"] if info["family"] == "inet6" and info["scope"] == "link"]
    if any(info.get("tentative") for info in own):
        return None
    return Link(device["ifname"], own[0]["local"] if own else "")


def link(point: Point) -> Link:
    if found := link_in(point.run(["ip", "-j", "address"]).stdout, point.address):
        return found
    raise Refusal(f"{point.name} has not made sure yet that its IPv6 address is its own: it came up a moment ago. Ask again.")


def _ip(*arguments: str, check: bool = True) -> None:
    done = subprocess.run([*AS_ROOT, "ip", *arguments], text=True, capture_output=True, check=False)
    if check and done.returncode:
        raise Refusal(f"ip {' '.join(arguments)} failed:\n{done.stderr.strip()}")


@contextmanager
def stranger(network: str = "grunnfjell", address: str = "") -> Iterator[Point]:
    """A machine on the lab's network that no inventory knows, for as long as the block lasts.

    address: the network's last unless given, which no host of the lab may take.
    """
    address = address or str(NETWORKS[network][-2])
    name, link = f"grunnfjell-{OUTSIDE}-{os.getpid()}", f"gfout{os.getpid() % 10**8}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", link, "master", bridge(network), "up")
        _ip("-n", name, "address", "add", f"{address}/{NETWORKS[network].prefixlen}", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "addrgenmode", "none", check=False)
        for device in ("lo", "eth0"):
            _ip("-n", name, "link", "set", device, "up")
        # A machine without IPv6 has none here either.
        _ip("-n", name, "address", "add", f"{STRANGERS_LINK}/64", "dev", "eth0", "nodad", check=False)
        yield Point(OUTSIDE, address, ("ip", "netns", "exec", name))
    finally:
        _ip("link", "delete", link, check=False)
        _ip("netns", "delete", name, check=False)
