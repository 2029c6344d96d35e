"""`python -m lab.exposure`: look at every host of the lab from everywhere, hold what is open against what is declared, and read
along while it works."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab.exposure import capture, judging, report, scan
from lab.exposure.asked import asked
from lab.exposure.judging import Flow, Verdict
from lab.exposure.points import Link, Point, controller, host_points, link, network_of, stranger
from lab.exposure.scan import Reached
from lab.machine import REPOSITORY, Refusal, fail, give_back, install_packages

BUILD = REPOSITORY / "build"
PACKAGES = {"nmap": "/usr/bin/nmap", "tcpdump": "/usr/bin/tcpdump", "iproute2": "/usr/sbin/ip", "util-linux": "/usr/bin/nsenter"}
# Each scan keeps about one core busy.
SIDE_BY_SIDE = 2


def look(
    point: Point, hosts: dict[str, str], links: dict[str, Link], listening: dict[str, set[int]], declared_ways: set[Reached]
) -> set[Reached]:
    """What is open from a point.

    A busy machine loses answers. What is declared has to be seen: a scan that overlooked some of it may have overlooked more, and
    is done anew, slower. What was seen once is open.
    """
    targets = {address: name for name, address in hosts.items() if name != point.name}
    began = time.monotonic()
    ports = scan.udp_ports(listening.values(), declared_ways)
    found = scan.reached(point.name, scan.run(point, scan.udp_command(list(targets), ports), targets), listening)
    wanted = {way for way in declared_ways if way.source == point.name}
    for looks in range(scan.LOOKS):
        command = scan.tcp_command(list(targets), scan.PACKETS_PER_SECOND >> looks)
        found |= scan.reached(point.name, scan.run(point, command, targets), listening)
        if wanted <= found:
            break
    found |= look_by_ipv6(point, hosts, links, listening, ports)
    took = f"{time.monotonic() - began:6.1f} s" + (f", in {looks + 1} looks" if looks else "")
    print(f"  from {point.name:12} {len(found):3} open on {len(targets)} hosts  {took}", flush=True)
    return found


def look_by_ipv6(
    point: Point, hosts: dict[str, str], links: dict[str, Link], listening: dict[str, set[int]], ports: Sequence[int]
) -> set[Reached]:
    """What is open by addresses that nobody configured. nmap names a host only after that has answered for its address."""
    targets = {links[name].address: name for name in hosts if name != point.name and links[name].address}
    if not targets or not links[point.name].address:
        return set()
    reachable = [f"{address}%{links[point.name].device}" for address in targets]
    found = set()
    for command in (scan.udp_command(reachable, ports), scan.tcp_command(reachable)):
        found |= scan.reached(point.name, scan.run(point, command, targets), listening, "6")
    return found


def look_from_everywhere(hosts: dict[str, str], flows: Sequence[Flow]) -> tuple[Verdict, list[Point], dict[str, Link], list[int]]:
    network = network_of(list(hosts.values()))
    inside = host_points(hosts)
    listening = {point.name: scan.udp_listeners(point.run(["ss", "-lnuH"]).stdout) for point in inside}
    with stranger(network) as outside:
        points = [*inside, controller(network), outside]
        if taken := [point.name for point in inside if point.address == outside.address]:
            raise Refusal(f"{taken[0]} has the stranger's address, {outside.address}; give it another.")
        links = {point.name: link(point) for point in points}
        ways = judging.expand(flows, {point.name: point.address for point in points}, hosts)
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            found = set().union(*pool.map(lambda point: look(point, hosts, links, listening, set(ways)), points))
    return Verdict(ways, found), points, links, scan.udp_ports(listening.values(), ways)


def faults(verdict: Verdict, recorded: Mapping[str, Any] | None, unrecorded: str) -> bool:
    """A scan that missed a declared port, however often it looked, may have missed an open one as well."""
    return bool(verdict.undeclared or verdict.missing or unrecorded or (recorded and recorded["readable"]))


def scanner() -> str:
    return subprocess.run(["nmap", "--version"], text=True, capture_output=True, check=True).stdout.splitlines()[0]


def said(ways: Sequence[Reached], how: str) -> None:
    for way in ways:
        print(f"  {how}: {way.source} → {way.destination} {way.port}/{way.protocol}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.exposure", description=__doc__)
    parser.add_argument("--inventory", default="inventories/lab")
    parser.add_argument("--no-capture", action="store_true", help="scan only; no job is sent, and nobody logs in again")
    arguments = parser.parse_args()
    if os.geteuid():
        fail("scanning from inside the lab's hosts needs root: run it through make, which asks sudo.")
    BUILD.mkdir(exist_ok=True)
    try:
        install_packages(PACKAGES)
        began, clock = time.strftime("%Y-%m-%dT%H:%M:%S%z"), time.monotonic()
        known = asked(arguments.inventory, "flows")  # {"hosts": {name: address}, "flows": ...}, as its own judgement derives them
        hosts = known["hosts"]
        print(f"▸ {len(hosts)} hosts, all TCP ports and UDP ports in use, by IPv4 and IPv6, from everywhere", flush=True)
        verdict, points, links, udp_ports = look_from_everywhere(hosts, judging.read(known["flows"]))
        ways_scanned_s = round(time.monotonic() - clock, 1)
        recorded, unrecorded = None, ""
        if not arguments.no_capture:
            print(f"▸ {capture.JOBS} jobs, with the network recorded", flush=True)
            try:
                recorded = capture.capture(arguments.inventory, sorted({way.port for way in verdict.declared}))
            except Refusal as refusal:
                # What was scanned is worth a report all the same.
                unrecorded = str(refusal)
        conditions = {
            "began": began,
            "took_s": round(time.monotonic() - clock, 1),
            "scan_s": ways_scanned_s,
            "inventory": arguments.inventory,
            "scanner": scanner(),
            "tcp_ports": 65535,
            "udp_ports": udp_ports,
            "ipv6": {name: each.address for name, each in links.items()},
            "points": {point.name: point.address for point in points},
            "stranger": points[-1].address,
            "unrecorded": unrecorded,
        }
        all_of_it = report.report_data(verdict, conditions, recorded)
        (BUILD / "exposure.json").write_text(json.dumps(all_of_it, indent=2) + "\n", encoding="utf-8")
        page = report.page(all_of_it, verdict, [point.name for point in points], list(hosts))
        (BUILD / "exposure.html").write_text(page, encoding="utf-8")
    except Refusal as refusal:
        fail(str(refusal))
    finally:
        give_back(BUILD)
    said(verdict.undeclared, "open but not declared")
    said(verdict.missing, "declared but not open")
    print(
        f"{len(verdict.open)} flows are open, {len(verdict.declared)} declared, {len(verdict.undeclared)} undeclared, "
        f"{len(verdict.missing)} missing; build/exposure.html"
    )
    for name, how in recorded["readable_as"].items() if recorded else ():
        print(f"  readable on the wire: {name} ({', '.join(how)})")
    if unrecorded:
        print(f"  nothing is known of the wire: {unrecorded}")
    raise SystemExit(1 if faults(verdict, recorded, unrecorded) else 0)


if __name__ == "__main__":
    main()
