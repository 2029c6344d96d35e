"""Points from which to scan: every host, the machine that administers them, and a stranger on the same network."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lab.addresses import LAB_NETWORK, NETWORKS
from lab.containers import PREFIX, bridge
from lab.machine import Refusal, podman

CONTROLLER = "controller"
OUTSIDE = "outside"
# The stranger's link-local address. A fixed one, without duplicate address detection, is usable at once.
STRANGERS_LINK = "fe80::67:ff"
# Only root may enter a network namespace.
AS_ROOT = ["sudo", "--non-interactive", "--preserve-env"] if os.geteuid() else []


@dataclass(frozen=True)
class Point:
    """Somewhere to scan from. `enter` is the prefix of a command that runs there; nothing is installed there."""

    name: str
    address: str
    enter: tuple[str, ...] = ()

    def there(self, command: Sequence[str]) -> list[str]:
        """The command with its prefix. It sees this machine's files and that point's network."""
        return [*(AS_ROOT if self.enter else []), *self.enter, *command]

    def run(self, command: Sequence[str], stdin: str = "", timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.there(command), text=True, capture_output=True, input=stdin, timeout=timeout_s, check=False)


def host_points(addresses: dict[str, str]) -> list[Point]:
    """A point for each of the lab's hosts, by the network namespace of its container."""
    names = [PREFIX + name for name in addresses]
    entries = json.loads(podman("inspect", *names).stdout)
    pids = {entry["Name"]: entry["State"]["Pid"] for entry in entries if entry["State"]["Running"]}
    if missing := [name for name in names if name not in pids]:
        raise Refusal(f"these hosts of the lab do not run: {', '.join(missing)}; start them with `make lab`.")
    return [
        Point(name, address, ("nsenter", "--net", "--target", str(pids[PREFIX + name]))) for name, address in addresses.items()
    ]


def network_of(addresses: Sequence[str]) -> str:
    """The lab's network that all of these hosts use. Only the lab's hosts are scanned, whatever an inventory says."""
    for name, network in NETWORKS.items():
        if all(ipaddress.ip_address(address) in network for address in addresses):
            return name
    raise Refusal(
        f"{', '.join(addresses)}: only hosts of the lab are scanned, all in {' or all in '.join(map(str, NETWORKS.values()))}."
    )


def controller(network: str = LAB_NETWORK) -> Point:
    return Point(CONTROLLER, str(NETWORKS[network][1]))


@dataclass(frozen=True)
class Link:
    """A point's device, and its link-local IPv6 address, which exists without any configuration; empty without IPv6."""

    device: str
    address: str


def link_in(output: str, address: str) -> Link | None:
    """The device with this address in the output of `ip -j address`; None while its IPv6 address is not usable yet."""
    (device,) = (
        entry for entry in json.loads(output) if any(info.get("local") == address for info in entry.get("addr_info", []))
    )
    local = [info for info in device["addr_info"] if info["family"] == "inet6" and info["scope"] == "link"]
    if any(info.get("tentative") for info in local):
        return None
    return Link(device["ifname"], local[0]["local"] if local else "")


def link(point: Point) -> Link:
    if found := link_in(point.run(["ip", "-j", "address"]).stdout, point.address):
        return found
    raise Refusal(f"{point.name} started a moment ago, and its IPv6 duplicate address detection has not finished. Try again.")


def _ip(*arguments: str, check: bool = True) -> None:
    done = subprocess.run([*AS_ROOT, "ip", *arguments], text=True, capture_output=True, check=False)
    if check and done.returncode:
        raise Refusal(f"ip {' '.join(arguments)} failed:\n{done.stderr.strip()}")


@contextmanager
def stranger(network: str = LAB_NETWORK, address: str = "") -> Iterator[Point]:
    """A machine on the lab's network that is in no inventory, while the block runs.

    address: by default the network's last, which no host of the lab may have.
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
