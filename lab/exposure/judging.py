"""The declared flows against the open ports: pure functions, no host."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.exposure.scan import Reached


@dataclass(frozen=True)
class Flow:
    """One line of the fleet's flows: an end is a host's name, or an address, a network, a name of the world outside."""

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    port: int
    protocol: str
    purpose: str


def end(told: Mapping[str, Any]) -> tuple[str, ...]:
    # A place may be called as a host is, and is another thing.
    return (told["name"], *told["addresses"]) if told["kind"] == "host" else tuple(told["addresses"])


def read(told: Iterable[Mapping[str, Any]]) -> list[Flow]:
    """The flows as topology tells them, each once; what has no port cannot be scanned for one."""
    flows = [
        Flow(end(each["source"]), end(each["destination"]), each["port"], each["protocol"], each["purpose"])
        for each in told
        if each["port"] is not None
    ]
    return list(dict.fromkeys(flows))


@dataclass
class Verdict:
    """`declared` holds what may be open from these points; the two differences are what is wrong."""

    declared: dict[Reached, str] = field(default_factory=dict)
    open: set[Reached] = field(default_factory=set)

    @property
    def undeclared(self) -> list[Reached]:
        return sorted(self.open - set(self.declared))

    @property
    def missing(self) -> list[Reached]:
        return sorted(set(self.declared) - self.open)


def matches(place: str, name: str, address: str) -> bool:
    """Whether a place of a flow means this point."""
    if place == name:
        return True
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(place, strict=False)
    except ValueError:
        return False


def meant(places: Iterable[str], among: Mapping[str, str]) -> list[str]:
    return [name for name, address in among.items() if any(matches(place, name, address) for place in places)]


def expand(flows: Iterable[Flow], points: Mapping[str, str], hosts: Mapping[str, str]) -> dict[Reached, str]:
    """What each point may reach on each host, with the purposes. A flow that leaves the fleet reaches no host of it."""
    purposes: dict[Reached, list[str]] = {}
    for flow in flows:
        ways = itertools.product(meant(flow.sources, points), meant(flow.destinations, hosts))
        for source, destination in ways:
            if source != destination:
                purposes.setdefault(Reached(source, destination, flow.protocol, flow.port), []).append(flow.purpose)
    return {reached: "; ".join(dict.fromkeys(named)) for reached, named in purposes.items()}
