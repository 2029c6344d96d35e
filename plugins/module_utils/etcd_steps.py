"""What a member of etcd has to do, from what every host reports. Pure functions; etcd_member carries them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .etcd import Cluster, EtcdError, Member

# Read only at the first start, from another file.
BOOTSTRAP = ("ETCD_INITIAL_CLUSTER", "ETCD_INITIAL_CLUSTER_STATE", "ETCD_INITIAL_CLUSTER_TOKEN")
TOKEN = "grunnfjell"

Reports = Mapping[str, Mapping[str, Any]]


def settings_of(text: str) -> dict[str, str]:
    """The variables of an environment file, or of /proc/PID/environ with newlines, that are etcd's.

    >>> settings_of("# a comment\\nETCD_NAME=db1\\nHOME=/\\nETCD_INITIAL_CLUSTER_STATE=new")
    {'ETCD_NAME': 'db1'}
    """
    pairs = (line.split("=", 1) for line in text.splitlines() if line.startswith("ETCD_") and "=" in line)
    return {key: value for key, value in pairs if key not in BOOTSTRAP}


def bootstrap_file(cluster: Cluster, state: str) -> str:
    values = (cluster.initial_cluster, state, TOKEN)
    return "".join(f"{key}={value}\n" for key, value in zip(BOOTSTRAP, values, strict=True))


def with_data(reports: Reports) -> list[str]:
    return sorted(name for name, report in reports.items() if report.get("data"))


def may_bootstrap(members: Mapping[str, str], reports: Reports) -> bool:
    """Whether every member has been asked and is blank, so a new cluster begins."""
    return set(members) <= set(reports) and not with_data(reports)


def refuse_a_second_cluster(name: str, members: Mapping[str, str], reports: Reports) -> None:
    """For a blank member that finds no other one: it may begin a cluster only once every host has been asked."""
    if unknown := sorted(set(members) - set(reports)):
        raise EtcdError(
            f"{name} has no data of a member, no other member answers, and {', '.join(unknown)} did not take part in this run, "
            f"so a second cluster could begin beside an existing one. Run again without --limit"
        )


def never_formed(name: str, seen: Sequence[Member]) -> bool:
    """Whether the member belongs to a new cluster that was cut off before this member's first start."""
    return any(member.name == name and not member.started for member in seen)


def strangers(members: Mapping[str, str], seen: Sequence[Member], peer_urls: Sequence[str]) -> list[Member]:
    """Members that the inventory does not have. One that was added and has not started has no name, but a peer URL.

    Refuses an inventory that does not know most of the cluster: it would be another fleet's.
    """
    foreign = [entry for entry in seen if entry.name not in members and not set(entry.peer_urls) & set(peer_urls)]
    if 2 * len(foreign) >= len(seen):
        names = ", ".join(entry.name or entry.peer_urls[0] for entry in foreign)
        raise EtcdError(
            f"{names} are members of this cluster and not in etcd_members, which is half of its members or more. Take members "
            f"out one run at a time, and correct etcd_members if this is another fleet's cluster"
        )
    return foreign


def moved(members: Mapping[str, str], seen: Sequence[Member], peer_url: Mapping[str, str]) -> str:
    """The sentence about a member whose address in the inventory is not its address in the cluster, or an empty text."""
    for entry in seen:
        if entry.name in members and peer_url[entry.name] not in entry.peer_urls:
            return (
                f"{entry.name} is a member as {', '.join(entry.peer_urls)}, but etcd_members has {members[entry.name]}. Set the "
                f"former address, or give the host another name and let it take the place of the former one"
            )
    return ""


def was_removed(name: str, peer_url: str, seen: Sequence[Member], own: Sequence[Member]) -> bool:
    """Whether a member with data does not belong to the cluster. own: the members as it knows them, none if it is silent."""
    ids = {entry.id for entry in seen if entry.name == name or peer_url in entry.peer_urls}
    former = {entry.id for entry in own if entry.name == name}
    return not ids or bool(former and not ids & former)


def first_act(members: Mapping[str, str], reports: Reports) -> str:
    """The member that removes strangers: the first that joins, or else the first of all, so only one host reports it."""
    blank = sorted(set(reports) - set(with_data(reports)))
    return (blank or sorted(members))[0]


def disagreements(
    members: Mapping[str, str], views: Mapping[str, Sequence[Member]], troubles: Mapping[str, str], leaders: Mapping[str, str]
) -> list[str]:
    """Sentences about members that are not healthy, or know others than the inventory or each other."""
    problems = [f"{name} is not healthy: {why}" for name, why in troubles.items() if why]
    for name, seen in views.items():
        known = {entry.name or entry.peer_urls[0] for entry in seen}
        if missing := sorted(set(members) - known):
            problems.append(f"{name} does not know {', '.join(missing)}")
        if more := sorted(known - set(members)):
            problems.append(f"{name} has the member {', '.join(more)}, which is not in etcd_members")
    ids = {frozenset((entry.id, entry.name) for entry in seen) for seen in views.values()}
    if len(ids) > 1 and not problems:
        problems.append(f"{', '.join(views)} list the same names with different ids: they are members of different clusters")
    if len(set(leaders.values())) > 1 or "0" in leaders.values():
        named = ", ".join(f"{name} has {leader}" for name, leader in leaders.items())
        problems.append(f"the members have no common leader: {named}")
    return problems
