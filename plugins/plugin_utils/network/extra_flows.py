"""Flows that a host needs and nothing else in the inventory declares."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from .sites import PROTOCOLS, is_end, is_port

KEYS = ("to", "ports", "protocol", "reason")


def ends_named(entry: dict[str, Any]) -> list[Any]:
    """The entry's destinations: one, or a list."""
    to = entry.get("to")
    return to if isinstance(to, list) else [to]


def extra_faults(entry: dict[str, Any], hosts: Container[str] = ()) -> list[str]:
    """Faults of an entry of topology_flows_extra, each as the end of a sentence. hosts: names in the inventory."""
    problems = []
    if unknown := sorted(str(key) for key in entry if key not in KEYS):
        problems.append(f"has the key '{unknown[0]}', which nothing reads. The keys are {', '.join(KEYS)}")
    problems += [
        f"leads to {end!r}, which is not a host, address, network or name. Correct 'to'"
        for end in ends_named(entry)
        if not is_end(end, hosts)
    ]
    protocol = entry.get("protocol", "tcp")
    if protocol not in PROTOCOLS:
        problems.append(f"has the protocol {protocol!r}. Choose one of {', '.join(PROTOCOLS)}")
    ports = entry.get("ports")
    if protocol != "icmp" and not (isinstance(ports, list) and ports and all(map(is_port, ports))):
        problems.append(f"has the ports {ports!r}, but needs a list of numbers from 1 to 65535. Correct them")
    if not str(entry.get("reason") or "").strip():
        problems.append("has no reason. An extra flow needs one: add 'reason'")
    return problems
