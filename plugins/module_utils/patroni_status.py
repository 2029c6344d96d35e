"""The status of a member of a Patroni cluster."""

from __future__ import annotations

from typing import Any

from .patroni import Api, PatroniError, disagreements, without_etcd

WITHOUT_ETCD = "it does not reach etcd, so nobody can become the primary. Start etcd's members (docs/etcd.md)"


def member(wanted: dict[str, Any]) -> dict[str, Any]:
    """What the member at an address says of itself and of the cluster.

    name: of the member.  state: of its server.  pending_restart: whether the server has to restart for a changed setting.
    paused: whether Patroni decides nothing.  members: name to role, state, timeline and lag (in bytes; None of the primary, or if
    it is unknown).  problems: sentences about members that are missing, not streaming, or on another timeline.
    """
    api = Api(wanted["members"], wanted["port"])
    name = next(name for name, address in api.members.items() if address == wanted["address"])
    own = api.member(name)
    if own is None:
        raise PatroniError(f"it does not answer. On {name}: journalctl -u 'patroni@*'")
    if without_etcd(own):
        raise PatroniError(WITHOUT_ETCD)
    try:
        status, answer = api.ask(name, "/cluster")
    except PatroniError:  # without etcd it ends the connection
        status, answer = 0, None
    if status != 200 or not isinstance(answer, dict):
        raise PatroniError(WITHOUT_ETCD)
    parts = {entry["name"]: entry for entry in answer["members"]}
    return {
        "name": name,
        "state": own.get("state"),
        "pending_restart": bool(own.get("pending_restart")),
        "paused": bool(answer.get("pause")),
        "members": {
            part: {
                "role": entry.get("role"),
                "state": entry.get("state"),
                "timeline": entry.get("timeline"),
                "lag": entry["lag"] if isinstance(entry.get("lag"), int) else None,
            }
            for part, entry in parts.items()
        },
        "problems": disagreements(api.members, parts),
    }
