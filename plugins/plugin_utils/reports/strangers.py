"""Workers that consume while no line of the inventory names them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..fleet.model import Fleet, Host
from ..sizing.celery_worker import worker_programs

# Where a Celery worker hears commands; the name before it is the worker's own.
CONTROL = ".celery.pidbox"


def of_no_worker(queue: str) -> bool:
    """Queues that an operator reads: dead jobs, events, answers to commands."""
    return queue == "dead_letters" or queue.startswith("celeryev") or queue.endswith(f".reply{CONTROL}")


def nodes_of(host: Host) -> set[str]:
    return {f"{program.name}@{host.name}" for program in worker_programs(host)}


def strangers(fleet: Fleet, consumers: Iterable[dict[str, Any]]) -> list[str]:
    """A sentence for each consumer of an application's queues that is none of its worker hosts' programs.

    consumers: vhost, queue and address of each, as the broker tells them.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for vhost in fleet.applications:
        workers = fleet.of_application(vhost, "celery_worker")
        nodes = {node for worker in workers for node in nodes_of(worker)}
        places = {worker.address for worker in workers}
        for consumer in (each for each in consumers if each["vhost"] == vhost and not of_no_worker(each["queue"])):
            queue, address = consumer["queue"], consumer["address"]
            node = queue.removesuffix(CONTROL) if queue.endswith(CONTROL) else None
            if node is not None and node not in nodes:
                found.setdefault((vhost, address), set()).add(node)
            elif node is None and address and address not in places:
                found.setdefault((vhost, address), set())
    return [
        f"{' and '.join(sorted(names)) or 'A worker'} at {address or 'an address that is gone'} consumes in the virtual host "
        f"{vhost}, and no line of the inventory names it. Put its host into the inventory, or stop it."
        for (vhost, address), names in sorted(found.items())
    ]
