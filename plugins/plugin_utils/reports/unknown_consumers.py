"""Workers that consume though no line of the inventory names them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..fleet.model import Fleet, Host
from ..sizing.celery_worker import worker_programs

# The queue of a worker's remote control is named after the worker, with this suffix.
CONTROL = ".celery.pidbox"


def of_no_worker(queue: str) -> bool:
    """Queues that an operator reads: dead letters, events, answers to commands."""
    return queue == "dead_letters" or queue.startswith("celeryev") or queue.endswith(f".reply{CONTROL}")


def nodes_of(host: Host) -> set[str]:
    return {f"{program.name}@{host.name}" for program in worker_programs(host)}


def unknown_consumers(fleet: Fleet, consumers: Iterable[dict[str, Any]]) -> list[str]:
    """A sentence for each consumer of an application's queues that is not a program of its worker hosts.

    consumers: vhost, queue and address of each, as the broker lists them.
    """
    unknown: dict[tuple[str, str], set[str]] = {}
    for vhost in fleet.applications:
        workers = fleet.of_application(vhost, "celery_worker")
        nodes = {node for worker in workers for node in nodes_of(worker)}
        addresses = {worker.address for worker in workers}
        for consumer in (entry for entry in consumers if entry["vhost"] == vhost and not of_no_worker(entry["queue"])):
            queue, address = consumer["queue"], consumer["address"]
            node = queue.removesuffix(CONTROL) if queue.endswith(CONTROL) else None
            if node is not None and node not in nodes:
                unknown.setdefault((vhost, address), set()).add(node)
            elif node is None and address and address not in addresses:
                unknown.setdefault((vhost, address), set())
    return [
        f"{' and '.join(sorted(names)) or 'A worker'} at {address or 'an address that is gone'} consumes in the virtual host "
        f"{vhost}, and no line of the inventory names it. Put its host into the inventory, or stop it."
        for (vhost, address), names in sorted(unknown.items())
    ]
