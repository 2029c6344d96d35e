"""Sites outside the fleet where data can be stored or pass, as the inventory declares them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from ..fleet.model import Host

PROTOCOLS = ("tcp", "udp", "icmp")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
COUNTRY = re.compile(r"[A-Z]{2}")
# A DNS name. A text of digits and dots only is a mistyped address.
HOSTNAME = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
LOOKS_NUMERIC = re.compile(r"[\d./:]+|[0-9a-f:]+:[0-9a-f:./]*", re.IGNORECASE)


@dataclass(frozen=True)
class Kind:
    """Properties of every site of a kind.

    direction: "in" if the site connects to the fleet, "out" if the fleet connects to it.
        ports, protocols: defaults; ports of None must be declared.
        public: only public data passes there, so a site abroad can be excepted with a reason.
    """

    direction: str
    ports: tuple[int, ...] | None
    protocols: tuple[str, ...]
    public: bool


KINDS = {
    # Without ports: sshd's port of the host.
    "administrators": Kind("in", (), ("tcp",), False),
    # Without ports: the producers' port.
    "clients": Kind("in", (), ("tcp",), False),
    # What asks an agent on each host how the host is, as Prometheus does.
    "monitoring": Kind("in", None, ("tcp",), False),
    "package_mirror": Kind("out", (80, 443), ("tcp",), True),
    "time_server": Kind("out", (123,), ("udp",), True),
    # DNS queries reveal the fleet's peers, so they are not public data.
    "resolver": Kind("out", (53,), ("udp", "tcp"), False),
    "backup": Kind("out", None, ("tcp",), False),
    "log_sink": Kind("out", None, ("tcp",), False),
    "metric_sink": Kind("out", None, ("tcp",), False),
    # What an application uses and the kit does not bring: a cache, an object storage, another system's interface.
    "service": Kind("out", None, ("tcp",), False),
    "mail_relay": Kind("out", (25, 587), ("tcp",), False),
    "exchange_point": Kind("out", (), ("icmp",), True),
}
KEYS = ("name", "kind", "addresses", "ports", "protocols", "country", "roles", "reason")


@dataclass(frozen=True)
class Site:
    """One declared site, with the defaults of its kind."""

    name: str
    kind: str
    direction: str
    addresses: tuple[str, ...]
    ports: tuple[int, ...]
    protocols: tuple[str, ...]
    country: str
    public: bool
    reason: str = ""


def network(text: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The text as a network, or an address as a network of one host; None for a name."""
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return None


def is_address(text: Any) -> bool:
    """Whether it is an address, a network or a name, and not a mistyped address or network."""
    if not isinstance(text, str):
        return False
    return network(text) is not None or (not LOOKS_NUMERIC.fullmatch(text) and bool(HOSTNAME.fullmatch(text)))


def is_end(text: Any, hosts: Container[str]) -> bool:
    """Whether it is an address, a network, a name or a host of the inventory, whose name need not be valid in the DNS."""
    return is_address(text) or (isinstance(text, str) and text in hosts)


def faults(site: Any, hosts: Container[str] = ()) -> list[str]:
    """Faults of a declared site's structure, each as the end of a sentence.

    hosts: names in the inventory.
    """
    if not isinstance(site, dict):
        return [f"is {site!r}, but must be a mapping with name, kind, addresses and country. Write it as one"]
    problems = []
    if unknown := sorted(str(key) for key in site if key not in KEYS):
        problems.append(f"has the key '{unknown[0]}', which nothing reads. The keys are {', '.join(KEYS)}")
    if not NAME.fullmatch(str(site.get("name", ""))):
        problems.append("has no plain name. Give it a name of small letters, digits, - and _")
    kind = KINDS.get(str(site.get("kind")))
    if kind is None:
        problems.append(f"is of the kind '{site.get('kind')}', which does not exist. Choose one of {', '.join(KINDS)}")
    addresses = site.get("addresses")
    if not isinstance(addresses, list) or not addresses:
        problems.append("has no list of addresses. Name its addresses, networks or names")
    else:
        problems += [
            f"names {address!r}, which is not an address, network or name. Correct its addresses"
            for address in addresses
            if not is_end(address, hosts)
        ]
    ports = site.get("ports")
    if ports is None and kind and kind.ports is None:
        problems.append(f"has no ports, and a {site['kind']} has no default. Add ports, e.g. [6514]")
    if ports is not None and (not isinstance(ports, list) or not all(is_port(port) for port in ports)):
        problems.append(f"has the ports {ports!r}, but needs a list of numbers from 1 to 65535. Correct them")
    protocols = site.get("protocols")
    if protocols is not None and (
        not isinstance(protocols, list) or not protocols or any(protocol not in PROTOCOLS for protocol in protocols)
    ):
        problems.append(f"has the protocols {protocols!r}, but needs a list of {', '.join(PROTOCOLS)}. Correct them")
    roles = site.get("roles")
    if roles is not None and (not isinstance(roles, list) or not roles):
        problems.append(f"has the roles {roles!r}, but needs a list of roles. Correct it, or leave it out for every host")
    return problems


def is_port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536


def country_fault(value: Any) -> str | None:
    """Why the value is not a country, as the end of a sentence; None for two capital letters."""
    if value is False:
        return 'false, which is how YAML reads NO without quotes. Write "NO" in quotes'
    if value in (None, ""):
        return 'not declared. Write its country, e.g. "NO" in quotes'
    if not isinstance(value, str) or not COUNTRY.fullmatch(value):
        return f"{value!r}, which is not a country code of two capital letters (ISO 3166). Correct it"
    return None


def declared(host: Host) -> list[Any]:
    """The entries of the host's topology_sites, unchecked."""
    given = host.inputs.get("topology_sites")
    return given if isinstance(given, list) else []


def site_of(entry: dict[str, Any]) -> Site:
    """A valid entry as a site."""
    kind = KINDS[entry["kind"]]
    return Site(
        name=entry["name"],
        kind=entry["kind"],
        direction=kind.direction,
        addresses=tuple(entry["addresses"]),
        ports=tuple(entry["ports"] if entry.get("ports") is not None else kind.ports or ()),
        protocols=tuple(entry.get("protocols") or kind.protocols),
        country=str(entry.get("country")),
        public=kind.public,
        reason=str(entry.get("reason") or ""),
    )


def sites_of(host: Host, hosts: Container[str] = ()) -> list[Site]:
    """The host's sites, without malformed entries, which topology refuses."""
    return [
        site_of(entry)
        for entry in declared(host)
        if not faults(entry, hosts) and (not entry.get("roles") or host.roles & set(entry["roles"]))
    ]
