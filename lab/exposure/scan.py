"""nmap, run from a point at several hosts at once, and what it found."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from lab.exposure.points import Point
from lab.machine import Refusal

# A default-deny firewall answers nothing, and each silent port costs two packets: 65,535 of them at this rate take 13 s a
# host. At 50,000 a second nmap lost even the answers of open ports.
PACKETS_PER_SECOND = 10_000
# How often a scan that overlooked what is declared is done anew, each time at half the pace.
LOOKS = 3
HOST_TIMEOUT_S = 300

# What answers by UDP on Debian hosts, or is abused where it does: DNS, DHCP, TFTP, rpcbind, NTP, NetBIOS, SNMP, IKE, syslog,
# RIP, IPMI, OpenVPN, RADIUS, SSDP, NFS, SIP, mDNS, LLMNR, WireGuard, memcached, chrony's own.
UDP_PORTS = (
    53, 67, 68, 69, 111, 123, 137, 138, 161, 162, 323, 500, 514, 520, 623, 1194, 1701, 1812, 1900, 2049, 4500, 5060, 5353, 5355,
    11211, 51820,
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Reached:
    """A port that somebody at `source` can talk to. protocol: tcp or udp; tcp6 or udp6 by the IPv6 addresses of the link."""

    source: str
    destination: str
    protocol: str
    port: int


# Frames of its own making pass by the firewall of the host that they leave: each host is asked to defend itself.
RAW = ("nmap", "-Pn", "-n", "--send-eth", "--min-hostgroup", "64", "--host-timeout", f"{HOST_TIMEOUT_S}s", "-oX", "-")


def family(addresses: Sequence[str]) -> list[str]:
    return ["-6"] if any(":" in address for address in addresses) else []


def tcp_command(addresses: Sequence[str], pace: int = PACKETS_PER_SECOND) -> list[str]:
    rate = ["--min-rate", str(pace), "--max-retries", "1", "--max-rtt-timeout", "300ms"]
    return [*RAW, *family(addresses), "-sS", "-p-", *rate, *addresses]


def udp_ports(listening: Iterable[Iterable[int]], declared: Iterable[Reached]) -> list[int]:
    """The ports to scan on every host: the well-known ones, and any on which something listens somewhere or that a flow names."""
    return sorted({*UDP_PORTS, *chain.from_iterable(listening), *(way.port for way in declared if way.protocol == "udp")})


def udp_command(addresses: Sequence[str], ports: Iterable[int] = UDP_PORTS) -> list[str]:
    # Closed ports answer once a second at most, and a port that stays silent is told apart by who listens, not by waiting.
    rate = ["--min-rate", "50", "--max-retries", "1", "--max-rtt-timeout", "300ms"]
    return [*RAW, *family(addresses), "-sU", f"-p{','.join(map(str, ports))}", *rate, *addresses]


def parse(report: str) -> dict[str, dict[tuple[str, int], str]]:
    """nmap's XML: the state of each port that it names singly, by address. An address that ran out of time is a refusal."""
    found: dict[str, dict[tuple[str, int], str]] = {}
    for host in ElementTree.fromstring(report).iter("host"):
        addresses = {entry.get("addrtype"): entry.get("addr") for entry in host.iter("address")}
        address = str(addresses.get("ipv4") or addresses.get("ipv6"))
        if host.get("timedout") == "true":
            raise Refusal(f"nmap gave up on {address} after {HOST_TIMEOUT_S} s.")
        found[address] = {
            (str(port.get("protocol")), int(port.get("portid", 0))): str(port.find("state").get("state"))
            for port in host.iter("port")
            # Two hosts that scan each other may meet: one takes the other's own SYN for an open port (TCP's simultaneous open).
            if port.find("state").get("reason") != "split-handshake-syn"
        }
    return found


def run(point: Point, command: Sequence[str], targets: dict[str, str]) -> dict[str, dict[tuple[str, int], str]]:
    """`targets` is {address: host}; answers {host: {(protocol, port): state}}."""
    done = point.run(command, timeout_s=HOST_TIMEOUT_S * (len(targets) + 1))
    if done.returncode:
        raise Refusal(f"{' '.join(command)} failed at {point.name}:\n{done.stderr.strip()}")
    found = parse(done.stdout)
    if blind := [host for address, host in targets.items() if address not in found]:
        raise Refusal(f"nmap at {point.name} says nothing of {', '.join(blind)}:\n{done.stdout[-500:]}")
    return {targets[address]: states for address, states in found.items()}


def reached(
    source: str, found: dict[str, dict[tuple[str, int], str]], listening: dict[str, set[int]], family: str = ""
) -> set[Reached]:
    """What is open. A UDP port that stays silent may be: it counts as open if something on its host listens there.

    family: "6" behind the protocol of what was found by IPv6.
    """
    return {
        Reached(source, host, protocol + family, port)
        for host, states in found.items()
        for (protocol, port), state in states.items()
        if state == "open" or (state == "open|filtered" and protocol == "udp" and port in listening.get(host, set()))
    }


def udp_listeners(said: str) -> set[int]:
    """The ports in the answer of `ss -lnuH` that more than the host itself reaches."""
    found = set()
    for line in said.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        if not address.strip("[]").startswith(("127.", "::1")) and port.isdigit():
            found.add(int(port))
    return found
