"""Why the members of etcd cannot form one cluster, across hosts. Faults of one host's inputs: sizing/etcd.py."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.model import Fleet, Host, same_address

# What must be the same on every member.
COMMON = ("etcd_client_port", "etcd_peer_port", "etcd_heartbeat_interval", "etcd_election_timeout")


def members_of(fleet: Fleet) -> list[Host]:
    return sorted(fleet.with_role("etcd"), key=lambda host: host.name)


def split_clusters(fleet: Fleet) -> Iterator[str]:
    """Every member names the same members, which are the hosts with the role."""
    hosts = members_of(fleet)
    for host in hosts:
        members = host.inputs.get("etcd_members")
        if not isinstance(members, dict):
            continue
        if absent := [name for name in members if name not in {other.name for other in hosts}]:
            yield (
                f"{host.name}: etcd_members names {', '.join(map(str, absent))}, which is not a host with the role etcd. Add it "
                f"to the group {fleet.groups_of('etcd')}, or take it out."
            )
        if dict(members) != hosts[0].inputs.get("etcd_members"):
            yield (
                f"etcd_members is not the same on {hosts[0].name} and {host.name}, so they would form two clusters. Bind it "
                f"once, in the group_vars of {fleet.groups_of('etcd')}."
            )


def unequal_members(fleet: Fleet) -> Iterator[str]:
    hosts = members_of(fleet)
    for key in COMMON:
        values = {host.name: host.inputs.get(key) for host in hosts}
        if len({str(value) for value in values.values()}) > 1:
            which = ", ".join(f"{value} on {name}" for name, value in values.items())
            yield (
                f"{key} is {which}, but must be the same on every member. Set it in the group_vars of {fleet.groups_of('etcd')}."
            )
    releases = {host.name: host.release for host in hosts if host.release}
    if len(set(releases.values())) > 1:
        which = ", ".join(f"{release} on {name}" for name, release in releases.items())
        yield (
            f"The members of etcd have different releases of Debian ({which}), and so different versions of etcd, which were not "
            f"tried together. Install the same release on all of them."
        )


def members_elsewhere(fleet: Fleet) -> Iterator[str]:
    """A member's certificate holds the address at which the other hosts reach it."""
    for host in fleet.with_role("etcd"):
        members = host.inputs.get("etcd_members")
        address = members.get(host.name) if isinstance(members, dict) else None
        if address and host.address and not same_address(address, host.address):
            yield (
                f"{host.name}: etcd_members has {address} for it, but its certificate is for {host.address} (topology_address), "
                f"so the other members would refuse it. Set the same address in both."
            )
