"""`python -m lab.exposure`: scan every host of the lab from everywhere, compare what is open with the declared flows, and record
the network while the fleet works."""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab.exposure import capture, report, scan, verdict
from lab.exposure.points import Link, Point, controller, host_points, link, network_of, stranger
from lab.exposure.scan import Reached
from lab.exposure.verdict import Flow, Verdict
from lab.machine import BUILD, Refusal, fail, install_packages, refusals_shown
from lab.playbooks import answer
from lab.reports import write_report

PACKAGES = {"nmap": "/usr/bin/nmap", "tcpdump": "/usr/bin/tcpdump", "iproute2": "/usr/sbin/ip", "util-linux": "/usr/bin/nsenter"}
# Each scan keeps about one core busy.
PARALLEL = 2


def look(
    point: Point, hosts: dict[str, str], links: dict[str, Link], listening: dict[str, set[int]], declared: set[Reached]
) -> set[Reached]:
    """The open ports from a point.

    A busy machine loses answers. A scan that missed a declared port may have missed others, and is repeated at half the pace. A
    port that any scan saw is open.
    """
    targets = {address: name for name, address in hosts.items() if name != point.name}
    began = time.monotonic()
    ports = scan.udp_ports(listening.values(), declared)
    open_ports = scan.reached(point.name, scan.run(point, scan.udp_command(list(targets), ports), targets), listening)
    expected = {port for port in declared if port.source == point.name}
    for looks in range(scan.LOOKS):
        command = scan.tcp_command(list(targets), scan.PACKETS_PER_SECOND >> looks)
        open_ports |= scan.reached(point.name, scan.run(point, command, targets), listening)
        if expected <= open_ports:
            break
    open_ports |= look_by_ipv6(point, hosts, links, listening, ports)
    took = f"{time.monotonic() - began:6.1f} s" + (f", in {looks + 1} scans" if looks else "")
    print(f"  from {point.name:12} {len(open_ports):3} open on {len(targets)} hosts  {took}", flush=True)
    return open_ports


def look_by_ipv6(
    point: Point, hosts: dict[str, str], links: dict[str, Link], listening: dict[str, set[int]], ports: Sequence[int]
) -> set[Reached]:
    """The open ports at link-local addresses, which nobody configured. nmap lists a host only if the address answered."""
    targets = {links[name].address: name for name in hosts if name != point.name and links[name].address}
    if not targets or not links[point.name].address:
        return set()
    reachable = [f"{address}%{links[point.name].device}" for address in targets]
    open_ports = set()
    for command in (scan.udp_command(reachable, ports), scan.tcp_command(reachable)):
        open_ports |= scan.reached(point.name, scan.run(point, command, targets), listening, "6")
    return open_ports


def look_from_everywhere(hosts: dict[str, str], flows: Sequence[Flow]) -> tuple[Verdict, list[Point], dict[str, Link], list[int]]:
    network = network_of(list(hosts.values()))
    inside = host_points(hosts)
    listening = {point.name: scan.udp_listeners(point.run(["ss", "-lnuH"]).stdout) for point in inside}
    with stranger(network) as outside:
        points = [*inside, controller(network), outside]
        if taken := [point.name for point in inside if point.address == outside.address]:
            raise Refusal(f"{taken[0]} has the stranger's address, {outside.address}; give it another.")
        links = {point.name: link(point) for point in points}
        declared = verdict.expand(flows, {point.name: point.address for point in points}, hosts)
        with ThreadPoolExecutor(PARALLEL) as pool:
            scans = pool.map(lambda point: look(point, hosts, links, listening, set(declared)), points)
            open_ports = set().union(*scans)
    return Verdict(declared, open_ports), points, links, scan.udp_ports(listening.values(), declared)


def faults(result: Verdict, recorded: Mapping[str, Any] | None, unrecorded: str) -> bool:
    """A scan that never saw a declared port may have missed an open one as well."""
    return bool(result.undeclared or result.missing or unrecorded or (recorded and recorded["readable"]))


def scanner() -> str:
    return subprocess.run(["nmap", "--version"], text=True, capture_output=True, check=True).stdout.splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.exposure", description=__doc__)
    parser.add_argument("--inventory", default="inventories/lab")
    parser.add_argument("--no-capture", action="store_true", help="only scan; send no job, close no connection")
    arguments = parser.parse_args()
    if os.geteuid():
        fail("scanning from inside the lab's hosts needs root: run it through make, which uses sudo.")
    BUILD.mkdir(exist_ok=True)
    with refusals_shown():
        result, recorded, unrecorded = scan_and_record(arguments)
    for heading, ports in (("open but not declared", result.undeclared), ("declared but not open", result.missing)):
        for port in ports:
            print(f"  {heading}: {port.source} → {port.destination} {port.port}/{port.protocol}")
    print(
        f"{len(result.open)} flows are open, {len(result.declared)} declared, {len(result.undeclared)} undeclared, "
        f"{len(result.missing)} missing; build/exposure.html"
    )
    for name, forms in recorded["readable_as"].items() if recorded else ():
        print(f"  readable on the wire: {name} ({', '.join(forms)})")
    if unrecorded:
        print(f"  the wire was not recorded: {unrecorded}")
    raise SystemExit(1 if faults(result, recorded, unrecorded) else 0)


def scan_and_record(arguments: argparse.Namespace) -> tuple[Verdict, Mapping[str, Any] | None, str]:
    """The scan's verdict, the capture's result, and why there is no capture. Writes the report."""
    install_packages(PACKAGES)
    began, clock = time.strftime("%Y-%m-%dT%H:%M:%S%z"), time.monotonic()
    fleet = answer(arguments.inventory, "lab/exposure/flows.yml")
    hosts = fleet["hosts"]
    print(f"▸ {len(hosts)} hosts, all TCP ports and UDP ports in use, by IPv4 and IPv6, from everywhere", flush=True)
    result, points, links, udp_ports = look_from_everywhere(hosts, verdict.read(fleet["flows"]))
    scan_s = round(time.monotonic() - clock, 1)
    recorded, unrecorded = None, ""
    if not arguments.no_capture:
        print(f"▸ {capture.JOBS} jobs, with the network recorded", flush=True)
        try:
            recorded = capture.capture(arguments.inventory, sorted({port.port for port in result.declared}))
        except Refusal as refusal:
            # The scan still deserves its report.
            unrecorded = str(refusal)
    conditions = {
        "began": began,
        "took_s": round(time.monotonic() - clock, 1),
        "scan_s": scan_s,
        "inventory": arguments.inventory,
        "scanner": scanner(),
        "tcp_ports": 65535,
        "udp_ports": udp_ports,
        "ipv6": {name: link.address for name, link in links.items()},
        "points": {point.name: point.address for point in points},
        "stranger": points[-1].address,
        "unrecorded": unrecorded,
    }
    data = report.report_data(result, conditions, recorded)
    write_report("exposure", data, report.page(data, result, [point.name for point in points], list(hosts)))
    return result, recorded, unrecorded


if __name__ == "__main__":
    main()
