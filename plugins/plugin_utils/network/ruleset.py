"""The rules of a host's firewall, from the declared flows that begin or end there."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

# What nft takes for a rule's comment.
COMMENT_MAX = 128
FAMILIES = {"4": "ip", "6": "ip6"}
PING = {"4": "icmp", "6": "icmpv6"}
# IP protocols without ports that a service may declare. nft reads their names from a file that a host may lack.
PORTLESS = {"vrrp": 112}


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network that the text is; None for a name."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def collapsed(addresses: Iterable[str]) -> dict[str, list[str]]:
    """The networks of each address family, merged: nft refuses overlapping ones."""
    networks = {net for address in addresses if (net := network(address))}
    result = {}
    for family in FAMILIES:
        own = sorted(net for net in networks if str(net.version) == family)
        if own:
            result[family] = [
                str(net.network_address) if net.prefixlen == net.max_prefixlen else str(net)
                for net in ipaddress.collapse_addresses(own)
            ]
    return result


def peers(side: str, addresses: Iterable[str], names_sets: Iterable[str]) -> list[tuple[str, str]]:
    """Family and match of the other end for each rule: by its networks, and by the sets of its names."""
    matches = []
    for family, networks in collapsed(addresses).items():
        if any(net.endswith("/0") for net in networks):
            matches.append((family, f"meta nfproto ipv{family}"))
        else:
            matches.append((family, f"{FAMILIES[family]} {side} {{ {', '.join(networks)} }}"))
    return matches + [(family, f"{word} {side} @{name}_{family}") for name in names_sets for family, word in FAMILIES.items()]


def comment(purpose: str, ends: Iterable[str]) -> str:
    text = re.sub(r"[^\w .,:/-]", "", f"{purpose}: {', '.join(sorted(ends))}")
    return text if len(text) <= COMMENT_MAX else text[: COMMENT_MAX - 4] + " ..."


class Group(NamedTuple):
    """Flows of one rule: the other ends (name → addresses), and their common ports."""

    purpose: str
    protocol: str
    user: str
    ends: dict[str, list[str]]
    ports: list[int]


def grouped(flows: list[dict[str, Any]], end: str) -> list[Group]:
    together: dict[tuple[str, str, str, int], dict[str, list[str]]] = {}
    for flow in flows:
        key = flow["purpose"], flow["protocol"], flow["user"] if end == "destination" else "", flow["port"] or 0
        together.setdefault(key, {})[flow[end]["name"]] = flow[end]["addresses"]
    merged: dict[str, Group] = {}
    for (purpose, protocol, user, port), ends in sorted(together.items()):
        key = f"{purpose} {protocol} {user} {sorted(ends.items())}"
        merged.setdefault(key, Group(purpose, protocol, user, ends, [])).ports.append(port)
    return list(merged.values())


def packets_of(group: Group) -> str:
    """The match of a group's packets, whatever their other end."""
    if group.protocol in PORTLESS:
        return f"meta l4proto {PORTLESS[group.protocol]}"
    return f"{group.protocol} dport {{ {', '.join(map(str, group.ports))} }}"


def direction(
    flows: list[dict[str, Any]], end: str, side: str, names: dict[str, list[str]], strays: list[str] | None = None
) -> list[dict[str, str]]:
    """Rules for one direction, pings included. Adds the names that they match to ``names``, set by set.

    strays: gets matches of a server's packets for connections that this host has lost.
    """
    rules: list[dict[str, str]] = []
    met: set[str] = set()
    sets: list[str] = []
    for group in grouped(flows, end):
        addresses = set().union(*group.ends.values())
        own = []
        if lookups := sorted(address for address in addresses if network(address) is None):
            own = [f"{group.purpose}_{group.protocol}_{len(names)}"]
            names[own[0]] = lookups
        met, sets = met | addresses, sets + own
        if group.protocol != "icmp":
            packets = packets_of(group)
            whose = f" meta skuid {group.user}" if group.user else ""
            text = comment(group.purpose, group.ends)
            rules += [{"match": f"{match} {packets}{whose}", "comment": text} for _, match in peers(side, addresses, own)]
        if group.protocol == "tcp" and strays is not None:
            port = f"tcp sport {{ {', '.join(map(str, group.ports))} }}"
            strays += [f"{match} {port}" for _, match in peers("saddr", addresses, own)]
    pings = [f"{match} {PING[family]} type echo-request" for family, match in peers(side, met, sets)]
    return [{"match": match, "comment": "ping"} for match in pings] + rules


def is_host(end: dict[str, Any], name: str) -> bool:
    return end["kind"] == "host" and end["name"] == name


def firewall_table(flows: list[dict[str, Any]], host: str) -> dict[str, Any]:
    """The content of the table: C(names) by set, the rules of C(input) and C(output), C(strays) (servers that get a reset for
    connections that this host has lost), and C(administrators) (matches of administrators)."""
    names: dict[str, list[str]] = {}
    strays: list[str] = []
    incoming = [flow for flow in flows if is_host(flow["destination"], host)]
    outgoing = [flow for flow in flows if is_host(flow["source"], host)]
    return {
        "input": direction(incoming, "source", "saddr", names),
        "output": direction(outgoing, "destination", "daddr", names, strays),
        "strays": strays,
        "administrators": [
            rule["match"] for rule in direction([flow for flow in incoming if flow["purpose"] == "ssh"], "source", "saddr", names)
        ],
        "names": names,
    }
