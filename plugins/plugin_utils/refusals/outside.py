"""Servers that a host is set up to use and that its firewall would shut, since no site declares them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..fleet.model import Fleet, Host, ip, is_loopback
from ..network.flows import Flow, flows, of_host
from ..network.package_index import default_servers
from ..network.places import network
from .firewall import guarded


def reached(ways: list[Flow], host: Host, protocol: str, port: int, addresses: Iterable[str]) -> bool:
    """Whether a declared flow leads from the host to one of the addresses, or names."""
    known = set(addresses)
    found = {parsed for address in known if (parsed := ip(address))}
    for flow in ways:
        if (flow.source.kind, flow.source.name, flow.protocol, flow.port) == ("host", host.name, protocol, port):
            for end in flow.destination.addresses:
                if end in known or ((net := network(end)) and (net.prefixlen == 0 or any(each in net for each in found))):
                    return True
    return False


def line(kind: str, name: str, addresses: Iterable[str], ports: tuple[int, ...] = ()) -> str:
    """A line for topology_places, but for the country, which nobody can see."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
    shown = ", ".join(f'"{address}"' if ":" in address else address for address in addresses)
    opened = f", ports: [{', '.join(map(str, ports))}]" if ports else ""
    return f'- {{name: {slug}, kind: {kind}, addresses: [{shown}]{opened}, country: "??"}}'


def shut(host: Host, what: str, entry: str) -> str:
    return (
        f"{host.name}: {what}, and no site declares it: the firewall would shut it. "
        f"Add it to topology_places with its country: {entry}"
    )


def undeclared_servers(fleet: Fleet) -> Iterator[str]:
    """What the services need from outside. A host that was not measured is judged when it is in the run."""
    hosts = [host for host in guarded(fleet) if host.measured.get("outside")]
    declared = flows(fleet) if hosts else []
    for host in hosts:
        ways, seen = of_host(declared, host.name), host.measured["outside"]
        for resolver in (address.partition("%")[0] for address in seen["resolvers"]):
            if not is_loopback(resolver) and not reached(ways, host, "udp", 53, [resolver]):
                yield shut(host, f"its resolver is {resolver}", line("resolver", f"resolver-{resolver}", [resolver]))
        yield from sources_shut(host, ways, seen)
        if keeps_time(host, seen) and not any(flow.source.name == host.name and flow.port == 123 for flow in ways):
            servers = seen["time_servers"] or ["<your time server>"]
            asked = f"its clock is set by {', '.join(servers)}" if seen["time_servers"] else "its clock needs a time server"
            yield shut(host, asked, line("time_server", "time", servers))


def keeps_time(host: Host, seen: dict[str, Any]) -> bool:
    wanted = host.inputs.get("host_packages")
    return bool(seen["time_servers"]) or (isinstance(wanted, list) and "systemd-timesyncd" in wanted)


def sources_shut(host: Host, ways: list[Flow], seen: dict[str, Any]) -> Iterator[str]:
    """Package sources, and the index from which a release of an application is built, that no flow leads to."""
    builds = "application" in host.roles
    entries = [("apt", one) for one in seen["apt"]] + [("pip", one) for one in (seen["pip"] if builds else [])]
    missing: dict[tuple[str, str, int], list[str]] = {}
    for program, one in entries:
        for address in [one["address"]] if one["address"] else default_servers():
            ends = [address, *seen["names"].get(address, [])]
            if one["direct"] and not is_loopback(address) and not reached(ways, host, "tcp", one["port"], ends):
                missing.setdefault((program, one["file"], one["port"]), []).append(address)
    for (program, file, port), addresses in missing.items():
        told = list(dict.fromkeys(addresses))
        what = f"{program} goes to {', '.join(told)}, port {port} ({file})"
        yield shut(host, what, line("package_mirror", f"{program}-{told[0]}-{port}", told, (port,)))
