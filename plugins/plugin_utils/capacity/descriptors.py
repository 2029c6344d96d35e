"""Open files and sockets: what services need of what a host grants."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.inputs import number, numbers
from ..fleet.model import Fleet, Host
from ..sizing.pgbouncer import DESCRIPTOR_MARGIN
from .line import Line, parts


def broker_sockets(broker: Host) -> int | None:
    """Connections that a broker takes: RabbitMQ 3.10's own share of its descriptors (file_handle_cache), the rest being for
    its queues. 4.0 has no such share, but its queues take from the same table."""
    wanted = number(broker, "rabbitmq_nofile")
    if wanted is None:
        return None
    granted = min(wanted, broker.measured.get("descriptors_max", wanted))
    return max(0, int((granted - 100) * 0.9 - 2))


def descriptor_lines(fleet: Fleet) -> Iterator[Line]:
    for bouncer in fleet.with_role("pgbouncer"):
        hard = bouncer.measured.get("descriptors_max")
        wanted = numbers(
            bouncer,
            "pgbouncer_max_client_conn",
            "pgbouncer_pools",
            "pgbouncer_default_pool_size",
            "pgbouncer_reserve_pool_size",
        )
        if hard is None or wanted is None:
            continue
        clients, pools, size, reserve = wanted
        used = parts([("clients", clients), ("pools", pools * (size + reserve)), ("its own", DESCRIPTOR_MARGIN)])
        yield Line(
            bouncer.name,
            "descriptors of PgBouncer",
            hard,
            used,
            f"The PgBouncer on {bouncer.name} needs {sum(part.used for part in used)} descriptors for pgbouncer_max_client_conn "
            f"{clients} and its pools; the host grants {hard}. Lower pgbouncer_max_client_conn, or raise the host's hard limit.",
        )
