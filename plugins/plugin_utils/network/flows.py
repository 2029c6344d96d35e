"""Every declared flow between the fleet's hosts, and between them and the sites outside.

The firewall opens exactly these, the residency report lists them, and an exposure scan compares with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..fleet.inputs import mappings, whole
from ..fleet.model import Fleet, Host, ip, is_loopback
from ..fleet.reach import listed, resolved, split_place
from ..fleet.services import Dials, services
from .endpoints import places, readers, targets_of
from .extra_flows import ends_named, extra_faults
from .ruleset import PORTLESS
from .sites import Site, sites_of


@dataclass(frozen=True, order=True)
class End:
    """kind: C(host), one of the inventory, or C(site), a site outside.  addresses: addresses, networks, names."""

    kind: str
    name: str
    addresses: tuple[str, ...]

    def as_data(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, "addresses": list(self.addresses)}


@dataclass(frozen=True, order=True)
class Flow:
    """Connections that the source may open to the port of the destination; port 0 where the protocol has none.

    user: the only system user of the source that may; empty for all.
    """

    source: End
    destination: End
    purpose: str
    protocol: str
    port: int
    reason: str = ""
    user: str = ""

    def touches(self, host: str) -> bool:
        return any(end.kind == "host" and end.name == host for end in (self.source, self.destination))

    def as_data(self) -> dict[str, Any]:
        return {
            "purpose": self.purpose,
            "protocol": self.protocol,
            "port": self.port or None,
            "source": self.source.as_data(),
            "destination": self.destination.as_data(),
            "reason": self.reason,
            "user": self.user,
        }


def end_of(host: Host) -> End:
    return End("host", host.name, (str(host.address),) if host.address else ())


def flows(fleet: Fleet) -> list[Flow]:
    """Every declared flow, in a fixed order. Connections within one host are not flows."""
    declared = {
        flow
        for host in fleet.hosts.values()
        for source in (to_services, from_and_to_places, from_jump_hosts, extra)
        for flow in source(fleet, host)
    }
    return sorted(flow for flow in declared if flow.source != flow.destination)


def of_host(declared: Iterable[Flow], host: str) -> list[Flow]:
    """The flows that begin or end at the host."""
    return [flow for flow in declared if flow.touches(host)]


def other_end(fleet: Fleet, host: Host, address: str) -> End:
    """The other end at the address: a host of the fleet, or a site."""
    if server := fleet.at(address, host):
        return end_of(server)
    return End("site", address, (address,))


def to_services(fleet: Fleet, host: Host) -> Iterator[Flow]:
    """From the host's services to those that they connect to, by ``dials`` in their meta/service.yml."""
    for service in services().values():
        for entry in service.dials if service.role in host.roles else ():
            for address, port in reached(host, entry):
                if not is_loopback(resolved(host, address)):
                    server = fleet.at(address, host)
                    purpose = entry.purpose or purpose_of(entry, server, port) or service.role
                    yield Flow(end_of(host), other_end(fleet, host, address), purpose, entry.protocol, port, user=entry.account)
                    for other, its_port in replaced_by(fleet, server, port):
                        yield Flow(end_of(host), end_of(other), purpose, entry.protocol, its_port, user=entry.account)


def replaced_by(fleet: Fleet, server: Host | None, port: int) -> Iterator[tuple[Host, int]]:
    """Host and port of each service whose place the one on the server has taken.

    A program that is led to the new one only by its next start goes on with the old one until then.
    """
    for service in services().values():
        for listens in service.listens if server is not None else ():
            for other in fleet.with_role(service.role) if listens.successor else ():
                place = split_place(other.inputs.get(listens.successor))
                if place and place[1] == port and fleet.at(place[0], other) is server:
                    yield from ((other, at.port) for at in places(other, service.role) if at.source == listens.endpoints)


def reached(host: Host, entry: Dials) -> Iterator[tuple[str, int]]:
    """What the entry dials and, where a balancer on the host listens there, the servers behind it.

    A program that is led to the balancer only by its next release goes on until then; so does one that is led past it again.
    """
    for address, port in dialled(host, entry):
        yield address, port
        if is_loopback(resolved(host, address)):
            yield from behind(host, port)


def behind(host: Host, port: int) -> Iterator[tuple[str, int]]:
    """The servers to which a service on the host leads what connects to the port on loopback."""
    for service in services().values():
        for listens, dials in product(service.listens, service.dials) if service.role in host.roles else ():
            if listens.each and listens.each == dials.each and listens.endpoints and dials.endpoints:
                for listening, dialling in zip(readers(host, listens), readers(host, dials), strict=True):
                    if any(place and place[1] == port for place in map(split_place, listed(listening(listens.endpoints)))):
                        yield from filter(None, map(split_place, listed(dialling(dials.endpoints))))


def dialled(host: Host, entry: Dials) -> Iterator[tuple[str, int]]:
    """Address and port of each connection, as far as the inputs are valid; port 0 where the protocol has none."""
    if entry.databases:
        yield from ((address, port) for _, address, port in targets_of(host, entry.databases))
    for read in readers(host, entry):
        yield from filter(None, map(split_place, listed(read(entry.endpoints))))
        single = whole(read(entry.port))
        without = (0,) if entry.protocol in PORTLESS else ()
        for port in entry.ports or ((single,) if single else without):
            for text in listed(read(entry.hosts)):
                yield (place[0] if (place := split_place(text)) and ip(text) is None else text), port


def purpose_of(entry: Dials, server: Host | None, port: int) -> str:
    """The purpose of the service that listens there; if none does, of the last one of ``services``."""
    for role in entry.services or services():
        if server is not None and role in server.roles:
            ports = {place.port for place in places(server, role)}
            if port in ports or (entry.services and not ports):
                return services()[role].listens[0].purpose
    return services()[entry.services[-1]].listens[0].purpose if entry.services else ""


def producer_port(host: Host) -> int | None:
    """A producer's port; None if it listens on loopback only."""
    place = split_place(host.inputs.get("producer_bind")) if "producer" in host.roles else None
    return None if place is None or is_loopback(place[0]) else place[1]


def ports_of(site: Site, host: Host) -> tuple[int, ...]:
    if site.kind == "administrators":
        return site.ports or (host.ssh_port,)
    if site.kind != "clients" or site.ports:
        return site.ports
    port = producer_port(host)
    return (port,) if port else ()


def from_and_to_places(fleet: Fleet, host: Host) -> Iterator[Flow]:
    for site in sites_of(host, fleet.hosts):
        if site.kind == "clients" and "producer" not in host.roles:
            continue
        purpose = {"administrators": "ssh", "clients": "http"}.get(site.kind, site.kind)
        for protocol in site.protocols:
            for port in (0,) if protocol == "icmp" else ports_of(site, host):
                for end in ends_of(fleet, host, site):
                    ends = (end, end_of(host)) if site.direction == "in" else (end_of(host), end)
                    yield Flow(*ends, purpose, protocol, port, site.reason)


def ends_of(fleet: Fleet, host: Host, site: Site) -> Iterator[End]:
    """The site and, for those of its addresses that are hosts of the fleet, these hosts: a backup target may be one."""
    outside = []
    for address in site.addresses:
        if server := fleet.at(address, host):
            yield end_of(server)
        else:
            outside.append(address)
    if outside:
        yield End("site", site.name, tuple(outside))


def came_from(fleet: Fleet, host: Host) -> Host | None:
    """The host of the fleet that this run's connection came from; the host itself if the run is started there."""
    controller = host.measured.get("controller")
    return fleet.at(controller, host) if controller else None


def jump_hosts(fleet: Fleet, host: Host) -> list[Host]:
    """The fleet's hosts from which SSH to this one is allowed: all that may forward, and the one that this run came from.

    One that may forward, or on which the run is started, counts for every other host, since a run with --limit may not measure
        those.
    """
    source = came_from(fleet, host)
    return [
        other
        for other in fleet.hosts.values()
        if other is not host
        and (other is source or came_from(fleet, other) is other or other.inputs.get("host_ssh_tcp_forwarding") is True)
    ]


def from_jump_hosts(fleet: Fleet, host: Host) -> Iterator[Flow]:
    for jump in jump_hosts(fleet, host):
        yield Flow(end_of(jump), end_of(host), "ssh", "tcp", host.ssh_port)


def extra(fleet: Fleet, host: Host) -> Iterator[Flow]:
    for entry in mappings(host, "topology_flows_extra"):
        if not extra_faults(entry, fleet.hosts):
            protocol = entry.get("protocol", "tcp")
            for end in ends_named(entry):
                for port in (0,) if protocol == "icmp" else entry["ports"]:
                    yield Flow(end_of(host), other_end(fleet, host, end), "extra", protocol, port, entry["reason"])
