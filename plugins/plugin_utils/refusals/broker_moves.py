"""Brokers whose place another one has taken: where their jobs go, and who still connects to them."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.inputs import mappings
from ..fleet.model import Fleet, Host
from ..fleet.reach import split_place
from ..network.endpoints import accepts
from .applications import brokers_of, clustered, replaced

SUCCESSOR = "rabbitmq_successor"
HOW = "docs/next-debian.md shows the lines"


def successor_of(fleet: Fleet, broker: Host) -> Host | None:
    place = split_place(broker.inputs.get(SUCCESSOR))
    return fleet.at(place[0], broker) if place else None


def replaced_brokers(fleet: Fleet) -> Iterator[Host]:
    return (broker for broker in fleet.with_role("rabbitmq") if replaced(broker))


def unusable_successors(fleet: Fleet) -> Iterator[str]:
    for broker in replaced_brokers(fleet):
        text = str(broker.inputs[SUCCESSOR])
        server, place = successor_of(fleet, broker), split_place(text)
        if place is None:
            yield f"{broker.name}: {SUCCESSOR} is {text!r}, which is not address:port, e.g. 10.0.0.12:5671. Correct it; {HOW}."
        elif server is None or server is broker or "rabbitmq" not in server.roles:
            yield (
                f"{broker.name}: {SUCCESSOR} is {text}, where no other broker of the fleet is. Name a host of the group "
                f"{fleet.groups_of('rabbitmq')}; {HOW}."
            )
        elif replaced(server):
            yield (
                f"{broker.name}: {SUCCESSOR} leads to {server.name}, whose place another broker has taken too. Name the one "
                f"that the applications use."
            )
        elif not accepts(server, "rabbitmq", *place):
            yield (
                f"{broker.name}: {SUCCESSOR} is {text}, where {server.name} does not listen (rabbitmq_listeners_ssl). Correct "
                f"the port."
            )
        if clustered(broker):
            yield (
                f"{broker.name}: {SUCCESSOR} is set, but the broker is a member of a cluster (rabbitmq_cluster_nodes), and only "
                f"single brokers are moved. Take {SUCCESSOR} out."
            )


def objects_left_behind(fleet: Fleet) -> Iterator[str]:
    """Virtual hosts and users that the successor does not have."""
    for broker in replaced_brokers(fleet):
        server = successor_of(fleet, broker)
        if server is None or server is broker or "rabbitmq" not in server.roles:
            continue
        for option, kind in (("rabbitmq_vhosts", "virtual host"), ("rabbitmq_users", "user")):
            theirs = {entry.get("name") for entry in mappings(server, option)}
            for name in sorted({str(entry.get("name")) for entry in mappings(broker, option)} - theirs):
                yield (
                    f"{broker.name} has the {kind} {name} ({option}), which {server.name}, its successor, does not have: its "
                    f"jobs would have no place there. Set {option} for their group, not for a host."
                )


def clients_left_behind(fleet: Fleet) -> Iterator[str]:
    for host in (*fleet.with_role("celery_worker"), *fleet.with_role("producer")):
        for broker in brokers_of(fleet, host):
            if replaced(broker):
                yield (
                    f"{host.name}: application_broker_hosts names {broker.name}, whose place another broker has taken "
                    f"({SUCCESSOR}), so its jobs would be moved away from it. Bind it to that one; {HOW}."
                )
