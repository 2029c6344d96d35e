"""Ways that nothing else of an inventory declares, and that one of its hosts needs all the same."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from .places import PROTOCOLS, is_end, is_port

KEYS = ("to", "ports", "protocol", "reason")


def ends_named(entry: dict[str, Any]) -> list[Any]:
    """Where the entry leads: one end, or each of a list."""
    to = entry.get("to")
    return to if isinstance(to, list) else [to]


def extra_faults(entry: dict[str, Any], hosts: Container[str] = ()) -> list[str]:
    """What is wrong with an entry of topology_flows_extra, each as the end of a sentence. hosts: names in the inventory."""
    found = []
    if unknown := sorted(str(key) for key in entry if key not in KEYS):
        found.append(f"has the key '{unknown[0]}', which nothing reads. The keys are {', '.join(KEYS)}")
    found += [
        f"leads to {end!r}, which is no host, address, network or name. Correct 'to'"
        for end in ends_named(entry)
        if not is_end(end, hosts)
    ]
    protocol = entry.get("protocol", "tcp")
    if protocol not in PROTOCOLS:
        found.append(f"has the protocol {protocol!r}. Choose one of {', '.join(PROTOCOLS)}")
    ports = entry.get("ports")
    if protocol != "icmp" and not (isinstance(ports, list) and ports and all(map(is_port, ports))):
        found.append(f"has the ports {ports!r}, and must have a list of numbers from 1 to 65535. Correct them")
    if not str(entry.get("reason") or "").strip():
        found.append("has no reason. A way that nothing else declares needs one: add 'reason'")
    return found
