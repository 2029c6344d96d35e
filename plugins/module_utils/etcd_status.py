"""The status of a member of etcd."""

from __future__ import annotations

from typing import Any

from .etcd import Cluster


def member(wanted: dict[str, Any]) -> dict[str, Any]:
    """Health, version, data and leader of the member at an address, and the members that it knows.

    trouble: why it is not healthy, empty if it is. bytes and quota: in bytes. known: names, also of members that are down.
    declared: those that the inventory has.
    """
    cluster = Cluster(wanted["members"], wanted["client_port"], wanted["peer_port"])
    name = next(name for name, address in cluster.members.items() if address == wanted["address"])
    known = {entry.id: entry.name or entry.peer_urls[0] for entry in cluster.seen_by(name)}
    trouble = cluster.trouble(name)
    names = {"name": name, "known": sorted(known.values()), "declared": sorted(cluster.members)}
    answer = {**names, "trouble": trouble, "quota": wanted["quota"]}
    if trouble:
        return {**answer, "leader": None}
    status = cluster.status(name)
    return {
        **answer,
        "leader": known.get(status["leader"]),
        "version": status["version"],
        "bytes": status["bytes"],
        "alarms": status["alarms"],
    }
