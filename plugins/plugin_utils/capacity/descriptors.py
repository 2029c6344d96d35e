"""Open files and sockets: what services need and what a host grants."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.inputs import number
from ..fleet.model import Fleet, Host
from ..fleet.services import services
from .line import Line, parts
from .memory import sizing


def broker_sockets(broker: Host) -> int | None:
    """Connections that a broker accepts: RabbitMQ 3.10's share of its descriptors (file_handle_cache); the rest is for its
    queues. 4.0 has no such share, but its queues use the same descriptors."""
    wanted = number(broker, "rabbitmq_nofile")
    if wanted is None:
        return None
    granted = min(wanted, broker.measured.get("descriptors_max", wanted))
    return max(0, int((granted - 100) * 0.9 - 2))


def descriptor_lines(fleet: Fleet) -> Iterator[Line]:
    """For each service that declares ``descriptors``: the sum of its ``descriptor_parts`` and the host's limit."""
    for service in (service for service in services().values() if service.descriptors):
        for host in fleet.with_role(service.role):
            hard, counted = host.measured.get("descriptors_max"), sizing(service).descriptor_parts(host)
            if hard is None or counted is None:
                continue
            needed, listed = sum(count for _, count in counted), ", ".join(f"{what} {count}" for what, count in counted)
            yield Line(
                host.name,
                f"descriptors of {service.role}",
                hard,
                parts(counted),
                f"{host.name}: {service.role} needs {needed} descriptors ({listed}), but the host grants a service {hard}. "
                f"Lower {service.descriptors}, or raise the host's fs.nr_open.",
            )
