"""Servers that a host uses and that its firewall would block, since no site declares them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ..fleet.model import Fleet, Host, ip, is_loopback
from ..network.flows import Flow, flows, of_host
from ..network.package_index import default_servers, installs_packages
from ..network.sites import network
from .firewall import guarded


def reached(declared: list[Flow], host: Host, protocol: str, port: int, addresses: Iterable[str]) -> bool:
    """Whether a declared flow leads from the host to one of the addresses, or names."""
    known = set(addresses)
    numeric = {parsed for address in known if (parsed := ip(address))}
    for flow in declared:
        if (flow.source.kind, flow.source.name, flow.protocol, flow.port) == ("host", host.name, protocol, port):
            for end in flow.destination.addresses:
                if end in known or ((net := network(end)) and (net.prefixlen == 0 or any(address in net for address in numeric))):
                    return True
    return False


def line(kind: str, name: str, addresses: Iterable[str], ports: tuple[int, ...] = ()) -> str:
    """A line for topology_sites; only the operator knows the country."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
    shown = ", ".join(f'"{address}"' if ":" in address else address for address in addresses)
    opened = f", ports: [{', '.join(map(str, ports))}]" if ports else ""
    return f'- {{name: {slug}, kind: {kind}, addresses: [{shown}]{opened}, country: "??"}}'


def blocked(host: Host, use: str, entry: str) -> str:
    return (
        f"{host.name}: {use}, but no site declares it: the firewall would block it. "
        f"Add it to topology_sites with its country: {entry}"
    )


def undeclared_servers(fleet: Fleet) -> Iterator[str]:
    """Servers outside that the services need. A host that was not measured is checked when it is in the run."""
    hosts = [host for host in guarded(fleet) if host.measured.get("outside")]
    fleet_flows = flows(fleet) if hosts else []
    for host in hosts:
        declared, seen = of_host(fleet_flows, host.name), host.measured["outside"]
        for resolver in (address.partition("%")[0] for address in seen["resolvers"]):
            if not is_loopback(resolver) and not reached(declared, host, "udp", 53, [resolver]):
                yield blocked(host, f"its resolver is {resolver}", line("resolver", f"resolver-{resolver}", [resolver]))
        yield from blocked_sources(host, declared, seen)
        if keeps_time(host, seen) and not any(flow.source.name == host.name and flow.port == 123 for flow in declared):
            servers = seen["time_servers"] or ["<your time server>"]
            use = f"its clock is set by {', '.join(servers)}" if seen["time_servers"] else "its clock needs a time server"
            yield blocked(host, use, line("time_server", "time", servers))


def keeps_time(host: Host, seen: dict[str, Any]) -> bool:
    wanted = host.inputs.get("host_packages")
    return bool(seen["time_servers"]) or (isinstance(wanted, list) and "systemd-timesyncd" in wanted)


def blocked_sources(host: Host, declared: list[Flow], seen: dict[str, Any]) -> Iterator[str]:
    """Package sources, and the package index that an application is built from, without a declared flow."""
    pip = seen["pip"] if installs_packages(host) else []
    sources = [("apt", source) for source in seen["apt"]] + [("pip", source) for source in pip]
    missing: dict[tuple[str, str, int], dict[str, None]] = {}
    for program, source in sources:
        for address in [source["address"]] if source["address"] else default_servers():
            ends = [address, *seen["names"].get(address, [])]
            if source["direct"] and not is_loopback(address) and not reached(declared, host, "tcp", source["port"], ends):
                missing.setdefault((program, source["file"], source["port"]), {})[address] = None
    for (program, file, port), addresses in missing.items():
        use = f"{program} connects to {', '.join(addresses)}, port {port} ({file})"
        yield blocked(host, use, line("package_mirror", f"{program}-{next(iter(addresses))}-{port}", addresses, (port,)))
