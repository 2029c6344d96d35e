"""nmap, run from a point against several hosts at once, and its results."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from lab.exposure.points import Point
from lab.machine import Refusal

# A default-deny firewall does not answer, and each silent port costs two packets: 65,535 of them at this rate take 13 s per
# host. At 50,000 per second nmap lost even answers of open ports.
PACKETS_PER_SECOND = 10_000
# The most scans from one point, while declared ports are missing, each at half the pace of the one before.
LOOKS = 3
HOST_TIMEOUT_S = 300

# UDP services of Debian hosts, or ones that are often abused: DNS, DHCP, TFTP, rpcbind, NTP, NetBIOS, SNMP, IKE, syslog,
# RIP, IPMI, OpenVPN, RADIUS, SSDP, NFS, SIP, mDNS, LLMNR, WireGuard, memcached, chrony's commands.
UDP_PORTS = (
    53, 67, 68, 69, 111, 123, 137, 138, 161, 162, 323, 500, 514, 520, 623, 1194, 1701, 1812, 1900, 2049, 4500, 5060, 5353, 5355,
    11211, 51820,
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Reached:
    """A port that `source` can reach. protocol: tcp or udp; tcp6 or udp6 at link-local IPv6 addresses."""

    source: str
    destination: str
    protocol: str
    port: int


# --send-eth: raw frames bypass the firewall of the host that sends them, so each target must defend itself.
RAW = ("nmap", "-Pn", "-n", "--send-eth", "--min-hostgroup", "64", "--host-timeout", f"{HOST_TIMEOUT_S}s", "-oX", "-")


def family(addresses: Sequence[str]) -> list[str]:
    return ["-6"] if any(":" in address for address in addresses) else []


def tcp_command(addresses: Sequence[str], pace: int = PACKETS_PER_SECOND) -> list[str]:
    rate = ["--min-rate", str(pace), "--max-retries", "1", "--max-rtt-timeout", "300ms"]
    return [*RAW, *family(addresses), "-sS", "-p-", *rate, *addresses]


def udp_ports(listening: Iterable[Iterable[int]], declared: Iterable[Reached]) -> list[int]:
    """The ports to scan on every host: the well-known ones, and any that a flow names or on which any host listens."""
    return sorted({*UDP_PORTS, *chain.from_iterable(listening), *(port.port for port in declared if port.protocol == "udp")})


def udp_command(addresses: Sequence[str], ports: Iterable[int] = UDP_PORTS) -> list[str]:
    # Closed ports answer at most once per second. Silent ports are told apart by their listeners, not by waiting.
    rate = ["--min-rate", "50", "--max-retries", "1", "--max-rtt-timeout", "300ms"]
    return [*RAW, *family(addresses), "-sU", f"-p{','.join(map(str, ports))}", *rate, *addresses]


def parse(report: str) -> dict[str, dict[tuple[str, int], str]]:
    """nmap's XML: the state of each port that it lists, by address."""
    states: dict[str, dict[tuple[str, int], str]] = {}
    for host in ElementTree.fromstring(report).iter("host"):
        addresses = {entry.get("addrtype"): entry.get("addr") for entry in host.iter("address")}
        address = str(addresses.get("ipv4") or addresses.get("ipv6"))
        if host.get("timedout") == "true":
            raise Refusal(f"nmap gave up on {address} after {HOST_TIMEOUT_S} s.")
        states[address] = {
            (str(port.get("protocol")), int(port.get("portid", 0))): str(port.find("state").get("state"))
            for port in host.iter("port")
            # Two hosts that scan each other may meet: one takes the other's own SYN for an open port (TCP's simultaneous open).
            if port.find("state").get("reason") != "split-handshake-syn"
        }
    return states


def run(point: Point, command: Sequence[str], targets: dict[str, str]) -> dict[str, dict[tuple[str, int], str]]:
    """`targets` is {address: host}; returns {host: {(protocol, port): state}}."""
    done = point.run(command, timeout_s=HOST_TIMEOUT_S * (len(targets) + 1))
    if done.returncode:
        raise Refusal(f"{' '.join(command)} failed at {point.name}:\n{done.stderr.strip()}")
    states = parse(done.stdout)
    if blind := [host for address, host in targets.items() if address not in states]:
        raise Refusal(f"nmap at {point.name} reports nothing about {', '.join(blind)}:\n{done.stdout[-500:]}")
    return {targets[address]: ports for address, ports in states.items()}


def reached(
    source: str, states: dict[str, dict[tuple[str, int], str]], listening: dict[str, set[int]], family: str = ""
) -> set[Reached]:
    """The open ports. A silent UDP port counts as open if its host has a listener there. family: "6" for scans by IPv6."""
    return {
        Reached(source, host, protocol + family, port)
        for host, ports in states.items()
        for (protocol, port), state in ports.items()
        if state == "open" or (state == "open|filtered" and protocol == "udp" and port in listening.get(host, set()))
    }


def udp_listeners(output: str) -> set[int]:
    """The ports in the output of `ss -lnuH` that are not only on loopback."""
    ports = set()
    for line in output.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        if not address.strip("[]").startswith(("127.", "::1")) and port.isdigit():
            ports.add(int(port))
    return ports
