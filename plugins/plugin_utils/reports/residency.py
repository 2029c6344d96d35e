"""Compares what was observed on the hosts with what the inventory declares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from typing import Any

from ..fleet.model import Fleet, Host, ip, is_every_address, is_loopback, same_address
from ..fleet.services import services
from ..network.flows import Flow, flows
from ..network.package_index import default_servers, installs_packages
from ..network.sites import Site, network, sites_of
from ..sizing.pgbackrest import WEEKDAYS, forgotten_on

# The first port that a kernel gives to a client's socket.
EPHEMERAL = 32768
HOST_IN_TARGET = (
    re.compile(r"^\w[\w+.-]*://(?:[^/@\s]+@)?\[?(?P<host>[\w.:-]+?)\]?(?::\d+)?(?:/|$)"),
    re.compile(r"\bhost=(?P<host>[\w.:-]+)"),
    re.compile(r"[\w.-]+@(?P<host>[\w.-]+)"),
    re.compile(r"(?:^|\s)(?P<host>[\w.-]+):/"),
)
PLAIN_HOST = re.compile(r"^(?P<host>[\w.-]+|[0-9a-f:]+:[0-9a-f:]+)(?::\d+)*$", re.IGNORECASE)
EXCEPTIONS = re.compile(r".*_(exceptions|waivers|waived_queues)")


def target_host(target: str, kind: str) -> str:
    """The host that a setting sends to; empty for a path on the host itself.

    >>> target_host("https://u:p@logs.test:19532/x", "log_sink"), target_host("cp %p /srv/archive/%f", "backup")
    ('logs.test', '')
    """
    for pattern in HOST_IN_TARGET:
        if match := pattern.search(target):
            return match["host"]
    match = None if kind == "backup" else PLAIN_HOST.fullmatch(target)
    return match["host"] if match else ""


def within(address: str, ends: Iterable[str], names: dict[str, list[str]]) -> bool:
    """Whether the address, or name, matches one of the ends: equal, inside a network, or an address of one of their names."""
    parsed = ip(address)
    for end in ends:
        if end == address:
            return True
        if parsed and (net := network(end)) and parsed in net:
            return True
        if parsed and any(ip(other) == parsed for other in names.get(end, [])):
            return True
    return False


class ResidencyReport:
    """observed: host → result of residency_observed, or None when it did not answer.  today: the day in UTC."""

    def __init__(self, fleet: Fleet, observed: dict[str, dict[str, Any] | None], today: date | None = None) -> None:
        self.fleet, self.observed, self.flows = fleet, observed, flows(fleet)
        self.today = today or datetime.now(UTC).date()

    def report(self) -> dict[str, Any]:
        contradictions = [
            {"host": host.name, "what": what}
            for host in self.fleet.hosts.values()
            for what in dict.fromkeys(self.contradictions(host))
        ]
        return {
            "schema": 1,
            "countries_allowed": sorted(
                {str(c) for h in self.fleet.hosts.values() for c in h.inputs["topology_countries_allowed"]}
            ),
            "hosts": [self.host(host) for host in self.fleet.hosts.values()],
            "sites": self.sites(),
            "flows": [flow.as_data() for flow in self.flows],
            "observed": self.observed,
            "contradictions": contradictions,
            "exceptions": self.exceptions(),
            "erasure": list(self.erasure()),
        }

    # --- Declared -----------------------------------------------------------------------------------------------------

    def host(self, host: Host) -> dict[str, Any]:
        applications = host.applications or self.fleet.applications
        holds = []
        named = ", ".join(applications) or "no application"
        for service in services().values():
            if service.role in host.roles and service.holds.what:
                days = host.inputs.get("host_log_retention_days")
                kept = f", for at most {days} days" if service.role == "host" and days else ""
                sites = [
                    path.format(application=name)
                    for path in service.holds.where
                    for name in (applications if "{application}" in path else [""])
                ]
                what = service.holds.what.format(applications=named) + kept
                holds.append({"role": service.role, "what": what, "where": ", ".join(dict.fromkeys(sites))})
        return {
            "name": host.name,
            "address": host.address,
            "country": host.inputs.get("topology_country"),
            "roles": sorted(host.roles - {"topology"}),
            "holds": holds,
            "answered": self.observed.get(host.name) is not None,
            "egress": self.egress(host),
        }

    def sites(self) -> list[dict[str, Any]]:
        hosts_of: dict[Site, list[str]] = {}
        for host in self.fleet.hosts.values():
            for site in sites_of(host, self.fleet.hosts):
                hosts_of.setdefault(site, []).append(host.name)
        return [
            {key: getattr(site, key) for key in ("name", "kind", "direction", "country", "reason")}
            | {key: list(getattr(site, key)) for key in ("addresses", "ports", "protocols")}
            | {"hosts": hosts}
            for site, hosts in hosts_of.items()
        ]

    def exceptions(self) -> list[dict[str, str]]:
        """Every exception in the inventory, from all inputs that can hold one."""
        hosts_of: dict[tuple[str, str, str], list[str]] = {}
        for flow in self.flows:
            if flow.purpose == "extra":
                what = f"a flow to {flow.destination.name}, {flow.protocol} {flow.port or ''}".rstrip()
                hosts_of.setdefault(("topology_flows_extra", what, flow.reason), []).append(flow.source.name)
        for host in self.fleet.hosts.values():
            for site in sites_of(host, self.fleet.hosts):
                if site.country not in host.inputs["topology_countries_allowed"]:
                    what = f"{site.name} ({site.kind}) is in {site.country}; only public data passes there"
                    hosts_of.setdefault(("topology_sites", what, site.reason), []).append(host.name)
            for name, value in host.inputs.items():
                if EXCEPTIONS.fullmatch(name) and value:
                    for what, reason in reasons(value):
                        hosts_of.setdefault((name, what, reason), []).append(host.name)
        return [
            {"input": source, "what": what, "reason": reason, "hosts": ", ".join(hosts)}
            for (source, what, reason), hosts in sorted(hosts_of.items())
        ]

    def erasure(self) -> Iterator[dict[str, str]]:
        """Of each backup repository, the date by which it has forgotten a row that is deleted today."""
        for host in self.fleet.with_role("pgbackrest"):
            databases, days = host.inputs.get("pgbackrest_database_hosts"), host.number("pgbackrest_repo_retention_full")
            weekdays = [day for day in host.inputs.get("pgbackrest_full_weekdays") or [] if day in WEEKDAYS]
            if isinstance(databases, list) and databases and days is not None and weekdays:
                yield {
                    "host": host.name,
                    "what": f"backups of {', '.join(map(str, databases))}",
                    "kept": f"{days} days, with a full backup on {', '.join(weekdays)}",
                    "deleted_on": self.today.isoformat(),
                    "forgotten_by": forgotten_on(self.today, weekdays, days).isoformat(),
                }

    def egress(self, host: Host) -> str:
        """What nftables does with an undeclared outbound connection, as observed."""
        seen = self.observed.get(host.name)
        if seen is None:
            return "not observed"
        closed = [chain for chain, policy in seen["firewall"].items() if "(output)" in chain and policy == "drop"]
        return f"closed except for declared flows ({closed[0]})" if closed else "open: no firewall restricts it"

    # --- Observed and not declared --------------------------------------------------------------------------------------

    def contradictions(self, host: Host) -> Iterator[str]:
        seen = self.observed.get(host.name)
        if seen is None:
            yield "it did not answer, so nothing is known about it. Bring it back and run the report again."
            return
        names = seen.get("names", {})
        yield from self.listeners(host, seen)
        yield from self.peers(host, seen, names)
        yield from self.looked_up(host, seen, names)
        yield from self.mounted(host, seen, names)
        yield from self.sent(host, seen, names)
        if "firewall" in host.roles and self.egress(host).startswith("open"):
            yield "no nftables chain drops undeclared outbound connections, but the role firewall is declared. Run site.yml."

    def listeners(self, host: Host, seen: dict[str, Any]) -> Iterator[str]:
        declared = {(f.protocol, f.port) for f in self.flows if f.destination.kind == "host" and f.destination.name == host.name}
        # Ignore loopback: only sockets that other hosts can reach need a declared flow.
        for listener in seen["listening"]:
            who = f"{listener['program'] or 'a program'} of {listener['user']}"
            address, port, protocol = listener["address"], listener["port"], listener["protocol"]
            if is_loopback(address) or (protocol, port) in declared or (protocol == "udp" and port >= EPHEMERAL):
                continue
            at = "every address" if is_every_address(address) else address
            yield (
                f"{who} listens on {at}, {protocol} port {port}, but no flow to it is declared. "
                f"Stop it, bind it to 127.0.0.1, or declare its clients (topology_sites, topology_flows_extra)."
            )

    def peers(self, host: Host, seen: dict[str, Any], names: dict[str, list[str]]) -> Iterator[str]:
        own = {str(host.address), *seen.get("addresses", [])}
        for peer in seen["peers"]:
            if peer["address"] not in own and not any(self.covers(flow, host, peer, names) for flow in self.flows):
                who = f"{peer['program'] or 'a program'} of {peer['user']}"
                direction = "has a connection from" if peer["direction"] == "in" else "is connected to"
                yield (
                    f"{who} {direction} {peer['address']}, {peer['protocol']} port {peer['port']}, "
                    f"which is not declared. Stop it, or declare the site in topology_sites."
                )

    @staticmethod
    def covers(flow: Flow, host: Host, peer: dict[str, Any], names: dict[str, list[str]]) -> bool:
        here, there = (flow.destination, flow.source) if peer["direction"] == "in" else (flow.source, flow.destination)
        if (here.kind, here.name) != ("host", host.name) or (flow.protocol, flow.port) != (peer["protocol"], peer["port"]):
            return False
        return within(peer["address"], there.addresses, names)

    def looked_up(self, host: Host, seen: dict[str, Any], names: dict[str, list[str]]) -> Iterator[str]:
        for label, kind, servers in (
            ("resolver", "resolver", seen["resolvers"]),
            ("time server", "time_server", seen["time_servers"]),
        ):
            ends = self.ends(host, {kind})
            for address in servers:
                if not is_loopback(address) and not within(address, ends, names):
                    yield f"its {label} is {address}, which no site of the kind {kind} names. Set another, or declare it."
        mirrors = [site for site in sites_of(host, self.fleet.hosts) if site.kind == "package_mirror"]
        for source in self.sources(host, seen):
            address, port = source["address"], source["port"]
            if is_loopback(address):
                continue
            if not any(port in site.ports and within(address, site.addresses, names) for site in mirrors):
                yield (
                    f"{source['file']} takes packages from {address}, port {port}, which no site of the kind "
                    f"package_mirror names. Take it out, or declare it."
                )

    @staticmethod
    def sources(host: Host, seen: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Package sources; pip's default index by its names, and only where applications are built."""
        for source in seen["package_sources"]:
            if source["address"]:
                yield source
            elif installs_packages(host):
                yield from (source | {"address": name} for name in default_servers())

    def mounted(self, host: Host, seen: dict[str, Any], names: dict[str, list[str]]) -> Iterator[str]:
        for mount in seen["mounts"]:
            if mount["network"]:
                server = target_host(mount["source"].replace("//", "smb://", 1), "mount")
                if not server or not within(server, self.ends(host, {"backup"}), names):
                    yield (
                        f"{mount['source']} ({mount['type']}) is mounted at {mount['at']}: another machine's filesystem, which "
                        f"no site names. Unmount it, or declare its server as a site of the kind backup."
                    )

    def sent(self, host: Host, seen: dict[str, Any], names: dict[str, list[str]]) -> Iterator[str]:
        for setting in seen["remote"]:
            kind, server = setting["kind"], target_host(setting["target"], setting["kind"])
            if server and not is_loopback(server) and not within(server, self.ends(host, {kind}), names):
                yield (
                    f"{setting['file']} sends to {server} ({setting['line']}), which no site of the kind {kind} names. "
                    f"Take the line out, or declare the site."
                )

    def ends(self, host: Host, kinds: set[str]) -> list[str]:
        """Addresses of the host's sites of these kinds; also the name of a site that is a host of the fleet."""
        ends = [address for site in sites_of(host, self.fleet.hosts) if site.kind in kinds for address in site.addresses]
        return ends + [other.name for other in self.fleet.hosts.values() if any(same_address(other.address, end) for end in ends)]


def reasons(value: Any) -> Iterator[tuple[str, str]]:
    """The exceptions of an input: a mapping to reasons, or a list of mappings that have one."""
    if isinstance(value, dict):
        yield from ((str(what), str(reason)) for what, reason in value.items())
    elif isinstance(value, list):
        for entry in value:
            if isinstance(entry, dict):
                yield ", ".join(f"{k} {v}" for k, v in entry.items() if k != "reason"), str(entry.get("reason", ""))
            else:
                yield str(entry), ""
