"""Why a fleet cannot be scaled or restarted as the inventory says."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..fleet.model import Fleet

BATCH = re.compile(r"[1-9][0-9]*|(100|[1-9][0-9]?)%")


def unworkable_drains(fleet: Fleet) -> Iterator[str]:
    for name in fleet.applications:
        workers = fleet.of_application(name, "celery_worker")
        drained = [host for host in workers if host.inputs.get("celery_worker_state") == "drained"]
        if drained and len(drained) == len(workers):
            names = ", ".join(host.name for host in drained)
            yield (
                f"All {len(drained)} workers of the application '{name}' are drained ({names}); at least one must run, or its "
                f"jobs would never run. Set celery_worker_state: running on one of them."
            )
        for host in drained:
            if host.inputs.get("celery_worker_beat") is True:
                yield (
                    f"{host.name} is drained, but runs the beat of '{name}': scheduled tasks would no longer be sent. "
                    f"Move celery_worker_beat: true to a worker that runs."
                )


def unreadable_batches(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        for key in ("celery_worker_batch", "producer_batch"):
            sizes = host.inputs.get(key) or []
            for size in sizes if isinstance(sizes, list) else [sizes]:
                if not BATCH.fullmatch(str(size).strip()):
                    yield (
                        f"{host.name}: {key} holds '{size}', but a batch is a number of hosts from 1 on, or a share from 1% to "
                        f"100%. Edit {key}."
                    )
