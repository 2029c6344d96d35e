"""Virtual addresses that could not move, or that two hosts would have. Faults of one host's inputs: sizing/keepalived.py."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ..fleet.inputs import mapping, mappings
from ..fleet.model import Fleet, Host, ip, names_of, same_address

MEMBERS, INSTANCES = "keepalived_members", "keepalived_vrrp_instances"


def virtual_addresses(host: Host) -> list[str]:
    return [str(instance.get("virtual_ipaddress")) for instance in mappings(host, INSTANCES)]


def unequal_members(fleet: Fleet) -> Iterator[str]:
    """Every member names the same members, which carry the role, and the same virtual addresses."""
    carriers = {host.name: host for host in fleet.with_role("keepalived")}
    for host in carriers.values():
        members = mapping(host, MEMBERS)
        if absent := [str(name) for name in members if name not in carriers]:
            yield (
                f"{host.name}: keepalived_members names {', '.join(absent)}, which is not a host with the role keepalived. Add "
                f"it to the group {fleet.groups_of('keepalived')}, or take it out."
            )
        for other in (carriers[name] for name in members if name in carriers and name > host.name):
            for source in (MEMBERS, INSTANCES):
                if host.inputs.get(source) != other.inputs.get(source):
                    yield (
                        f"{source} is not the same on {host.name} and {other.name}, so both could have an address at once. Bind "
                        f"it once, for the group {fleet.groups_of('keepalived')}."
                    )


def shared_addresses(fleet: Fleet) -> Iterator[str]:
    """A virtual address that is a host's, or that hosts of another list of members have too."""
    carriers = list(fleet.with_role("keepalived"))
    for host in carriers:
        for address in virtual_addresses(host):
            if owner := next((other for other in fleet.hosts.values() if same_address(address, other.address)), None):
                yield (
                    f"{host.name}: keepalived_vrrp_instances has {address}, which is the address of {owner.name}. Choose one "
                    f"that no host has and no DHCP server leases."
                )
            rivals = [
                other
                for other in carriers
                if other.name not in mapping(host, MEMBERS)
                and any(same_address(address, claimed) for claimed in virtual_addresses(other))
            ]
            if rivals:
                yield (
                    f"{host.name} and {names_of(rivals)} have the virtual address {address} in keepalived_vrrp_instances, but "
                    f"not the same keepalived_members, so both would have it. Choose another address for one of them."
                )


def unreachable_addresses(fleet: Fleet) -> Iterator[str]:
    """An address moves by telling the neighbours on the link, so it must be of the network of every member."""
    for host in fleet.with_role("keepalived"):
        own = mapping(host, MEMBERS).get(host.name)
        if own and host.address and not same_address(own, host.address):
            yield (
                f"{host.name}: keepalived_members has {own} for it, but topology_address is {host.address}, "
                f"so the firewalls would drop its adverts. Set the same address in both."
            )
            continue
        interfaces = host.measured.get("interfaces")
        if not own or not interfaces:
            continue
        link = next((link for address, link in interfaces.items() if same_address(address, own)), None)
        if link is None:
            yield (
                f"{host.name}: keepalived_members has {own} for it, but none of its interfaces has this address, so a virtual "
                f"address cannot be added beside it. Use your provider's balancer instead (docs/virtual-address.md)."
            )
            continue
        for address in virtual_addresses(host):
            if (parsed := ip(address)) and parsed not in ipaddress.ip_network(link["network"]):
                yield (
                    f"{host.name}: keepalived_vrrp_instances has {address}, which is not in {link['network']}, the network of "
                    f"{link['interface']}: its neighbours would not look for it there. Choose an address of that network."
                )


def unnamed_addresses(fleet: Fleet) -> Iterator[str]:
    """Clients verify the certificate for the address that they connect to."""
    for host in fleet.with_role("keepalived"):
        names = host.inputs.get("producer_names")
        for address in virtual_addresses(host) if "producer" in host.roles else ():
            if not any(same_address(address, name) for name in names or ()):
                yield (
                    f"{host.name}: producer_names does not have the virtual address {address}, so clients would refuse the "
                    f"producer's certificate. Add {address} to producer_names."
                )
