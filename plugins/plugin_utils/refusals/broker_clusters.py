"""Why the brokers of a fleet cannot be the clusters that the inventory describes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..fleet.inputs import mapping, whole
from ..fleet.model import Fleet, Host, ip, is_loopback, names_of
from ..fleet.reach import reached

NODES = "rabbitmq_cluster_nodes"
GROUP = "Bind rabbitmq_cluster_nodes as inventories/example/group_vars/rabbitmq/rabbitmq.yml does."
# Keys of rabbitmq.conf that the role sets on the members of a cluster.
FORMED_BY_ROLE = ("cluster_formation", "cluster_partition_handling", "net_ticktime")
WHY_NOT = {
    2: "with one lost, the other has no majority and accepts nothing",
    4: "with two lost there is no majority, so they survive no more losses than three",
}


def members_of(fleet: Fleet, host: Host) -> list[Host]:
    """The members of clusters that the host's application reaches, directly or through HAProxy on its host."""
    port, named = whole(host.inputs.get("application_broker_port")), host.inputs.get("application_broker_hosts")
    if port is None or not isinstance(named, list):
        return []
    servers = [server for address in named for server, _, _ in reached(fleet, host, str(address), port)]
    return [server for server in servers if server and "rabbitmq" in server.roles and mapping(server, NODES)]


def cluster_clients(fleet: Fleet) -> Iterator[str]:
    for host in (*fleet.with_role("celery_worker"), *fleet.with_role("producer")):
        members, name = members_of(fleet, host), host.inputs.get("application_broker_name")
        if members and host.inputs.get("application_broker_cluster") is not True:
            yield (
                f"{host.name}: its broker is a cluster, but application_broker_cluster is not true: with one member lost, every "
                f"worker that starts would hang on its control queue. Set application_broker_cluster: true."
            )
        unnamed = [
            member
            for member in members
            if name not in (member.name, member.address, *(member.inputs.get("rabbitmq_names") or []))
        ]
        # More than one address is refused anyway (applications.scattered_brokers).
        if unnamed and len(host.inputs.get("application_broker_hosts") or []) == 1:
            yield (
                f"{host.name}: application_broker_name is {name}, which is not in the certificate of {names_of(unnamed)}, so it "
                f"would refuse them. Set it to a name in rabbitmq_names of all members, e.g. rabbitmq.fleet."
            )


def nodename(host: Host) -> str:
    return str(host.inputs.get("rabbitmq_nodename"))


def clusters(fleet: Fleet) -> list[list[Host]]:
    """The hosts that declare the same members, one list per cluster; single brokers are in none."""
    together: dict[tuple[str, ...], list[Host]] = {}
    for host in fleet.with_role("rabbitmq"):
        if nodes := mapping(host, NODES):
            together.setdefault(tuple(sorted(f"{node} {address}" for node, address in nodes.items())), []).append(host)
    return list(together.values())


def cluster_sizes(fleet: Fleet) -> Iterator[str]:
    for hosts in clusters(fleet):
        size = max(len(mapping(hosts[0], NODES)), len(hosts))
        if size not in (3, 5):
            why = WHY_NOT.get(size, "each job is written by a majority, so more members are slower and no safer than five")
            yield (
                f"The cluster of {names_of(hosts)} has {size} brokers: {why}. Leave one, three or five hosts in the group "
                f"{fleet.groups_of('rabbitmq')}, or set {NODES}: {{}} for separate brokers."
                if size > 1
                else f"{hosts[0].name}: {NODES} names one member, which is a single broker. Set it to {{}}."
            )


def cluster_names(fleet: Fleet) -> Iterator[str]:
    """Every member appears under its node name and address, once."""
    for hosts in clusters(fleet):
        nodes = mapping(hosts[0], NODES)
        for node, number in sorted(Counter(map(nodename, hosts)).items()):
            if number > 1:
                same = names_of([host for host in hosts if nodename(host) == node])
                yield f"{same} would all be the node {node}. Set another rabbitmq_nodename on all but one."
        for host in hosts:
            address = host.inputs.get("rabbitmq_distribution_address")
            if nodename(host) not in nodes:
                yield f"{host.name}: its node is {nodename(host)}, which is not in {NODES} ({', '.join(sorted(nodes))}). {GROUP}"
            elif address != nodes[nodename(host)]:
                yield (
                    f"{host.name}: rabbitmq_distribution_address is {address}, but {NODES} gives its node "
                    f"{nodes[nodename(host)]}, where the other members connect. Take rabbitmq_distribution_address out."
                )
        yield from unknown_members(fleet, hosts, nodes)


def unknown_members(fleet: Fleet, hosts: list[Host], nodes: dict[str, object]) -> Iterator[str]:
    own = {nodename(host) for host in hosts}
    for node, address in sorted(nodes.items()):
        server = fleet.at(str(address), hosts[0])
        if ip(address) is None or is_loopback(address):
            yield f"{NODES} gives {node} the address {address}, but members connect to each other's IPv4 address. {GROUP}"
        elif node not in own and (server is None or "rabbitmq" not in server.roles):
            yield f"{NODES} names {node} at {address}, where no host of {fleet.groups_of('rabbitmq')} is. {GROUP}"
        elif node not in own and server is not None:
            yield f"{server.name}: {NODES} differs from that of {names_of(hosts)}. All members need the same. {GROUP}"


def cluster_releases(fleet: Fleet) -> Iterator[str]:
    for hosts in clusters(fleet):
        releases = {host.release: host.name for host in hosts if host.release}
        if len(releases) > 1:
            which = " and ".join(f"Debian {release} ({name})" for release, name in sorted(releases.items()))
            yield (
                f"The cluster of {names_of(hosts)} has {which}: their RabbitMQ 3.10 and 4.0 cannot be members of one cluster. "
                f"Install the same release on all of them."
            )


def cluster_cookies(fleet: Fleet) -> Iterator[str]:
    for hosts in clusters(fleet):
        if len({str(host.inputs.get("rabbitmq_erlang_cookie")) for host in hosts}) > 1:
            yield (
                f"rabbitmq_erlang_cookie differs between {names_of(hosts)}: members with another cookie refuse each other. "
                f"Set it for their group, not for a host."
            )


def cluster_parameters(fleet: Fleet) -> Iterator[str]:
    for host in (host for hosts in clusters(fleet) for host in hosts):
        for key in sorted(mapping(host, "rabbitmq_parameters")):
            if key.split(".")[0] in FORMED_BY_ROLE:
                yield f"{host.name}: rabbitmq_parameters names {key}, which the role sets in a cluster. Take it out."


def removed_members(fleet: Fleet) -> Iterator[str]:
    """A broker that is in a cluster with nodes that the inventory does not list any more: a cluster never shrinks by itself."""
    for host in fleet.with_role("rabbitmq"):
        for members in known_members(host).values():
            gone = sorted(set(members) - {*mapping(host, NODES), nodename(host)})
            if gone and len(members) > 1:
                yield (
                    f"{host.name} is in a cluster with {', '.join(gone)}, which the inventory does not list: a smaller cluster "
                    f"is not built, because their jobs could be lost. Put the host back, or build a new broker in a group of "
                    f"its own, move the applications there and empty this one (docs/three-brokers.md)."
                )


def known_members(host: Host) -> dict[str, list[str]]:
    """The nodes whose data is on the host, each to its members."""
    nodes = host.measured.get("broker_nodes")
    return nodes if isinstance(nodes, dict) else {}


def other_data(fleet: Fleet) -> Iterator[str]:
    """Members whose data belongs to different clusters, or to a node of another name."""
    for hosts in clusters(fleet):
        data = {host.name: known_members(host) for host in hosts}
        for host in hosts:
            for node in sorted(set(data[host.name]) - {nodename(host)}):
                yield (
                    f"{host.name} holds the data of {node}, but rabbitmq_nodename is {nodename(host)}, which is what the other "
                    f"members connect to. Set rabbitmq_nodename: {node} for it in host_vars."
                )
        yield from separate_clusters(hosts)


def separate_clusters(hosts: list[Host]) -> Iterator[str]:
    members = {host.name: set(known_members(host).get(nodename(host), ())) for host in hosts}
    full = [host for host in hosts if members[host.name]]
    for host in full:
        others = [other for other in full if other is not host and nodename(host) not in members[other.name]]
        if others and len(members[host.name]) > 1:
            yield (
                f"{host.name} has old data of the cluster, whose members {names_of(others)} have forgotten it: it would come "
                f"back with queues that they have moved on from. On {host.name}: systemctl stop rabbitmq-server, move "
                f"/var/lib/rabbitmq/mnesia away, and run again; it joins empty and gets every job from them."
            )
        elif others and host is min(full, key=lambda each: each.name):
            yield (
                f"{names_of([host, *others])} are single brokers with data, which cannot become one cluster. Keep one of them in "
                f"the group; empty the others, move /var/lib/rabbitmq/mnesia away there, and then add them."
            )


def lost_majorities(fleet: Fleet) -> Iterator[str]:
    """More than a minority without data cannot be replaced: nobody could confirm what the queues held."""
    for hosts in clusters(fleet):
        known = set().union(*(known_members(host).get(nodename(host), ()) for host in hosts))
        blank = [host for host in hosts if host.measured and nodename(host) in known and not known_members(host)]
        if blank and 2 * len(blank) >= len(known):
            yield (
                f"{names_of(blank)} have no data, but are {len(blank)} of the {len(known)} members of their cluster: the others "
                f"have no majority for its queues. Start the old machines with their disks. If they are lost, so are the jobs: "
                f"docs/three-brokers.md."
            )
