"""The declared flows compared with the open ports: pure functions, no host."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.exposure.scan import Reached


@dataclass(frozen=True)
class Flow:
    """One of the fleet's flows: an end is a host's name, or an address, a network, a name outside the fleet."""

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    port: int
    protocol: str
    purpose: str


def end(entry: Mapping[str, Any]) -> tuple[str, ...]:
    # A site may have a host's name; only its addresses count.
    return (entry["name"], *entry["addresses"]) if entry["kind"] == "host" else tuple(entry["addresses"])


def read(entries: Iterable[Mapping[str, Any]]) -> list[Flow]:
    """The flows of topology, each once; without a port there is nothing to scan."""
    flows = [
        Flow(end(entry["source"]), end(entry["destination"]), entry["port"], entry["protocol"], entry["purpose"])
        for entry in entries
        if entry["port"] is not None
    ]
    return list(dict.fromkeys(flows))


@dataclass
class Verdict:
    """`declared`: what may be open from these points, with its purpose. The two differences are faults."""

    declared: dict[Reached, str] = field(default_factory=dict)
    open: set[Reached] = field(default_factory=set)

    @property
    def undeclared(self) -> list[Reached]:
        return sorted(self.open - set(self.declared))

    @property
    def missing(self) -> list[Reached]:
        return sorted(set(self.declared) - self.open)


def matches(end: str, name: str, address: str) -> bool:
    """Whether an end of a flow includes this point."""
    if end == name:
        return True
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(end, strict=False)
    except ValueError:
        return False


def included(ends: Iterable[str], points: Mapping[str, str]) -> list[str]:
    return [name for name, address in points.items() if any(matches(end, name, address) for end in ends)]


def expand(flows: Iterable[Flow], points: Mapping[str, str], hosts: Mapping[str, str]) -> dict[Reached, str]:
    """What each point may reach on each host, with the purposes. A flow that leaves the fleet reaches none of its hosts."""
    purposes: dict[Reached, list[str]] = {}
    for flow in flows:
        for source, destination in itertools.product(included(flow.sources, points), included(flow.destinations, hosts)):
            if source != destination:
                purposes.setdefault(Reached(source, destination, flow.protocol, flow.port), []).append(flow.purpose)
    return {reached: "; ".join(dict.fromkeys(names)) for reached, names in purposes.items()}
