"""The worker hosts of the herd: stopped, woken all at once, and counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from lab.demo.fleet import Fleet, Host
from lab.drill.hosts import shell
from lab.drill.proof import queued_messages

# The children of supervisord's programs; the main processes run no task.
COUNT = """
for pid in $(supervisorctl status | sed -n 's/.* RUNNING *pid \\([0-9]*\\),.*/\\1/p'); do pgrep -P "$pid"; done | wc -l
"""
# A pool keeps idle connections for ten minutes, which the direct run needs.
GIVE_BACK = "runuser -u postgres -- psql -Xq -p 6432 -U pgbouncer -d pgbouncer -c RECONNECT"


def on_all(hosts: list[Host], script: str) -> list[str]:
    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(lambda host: shell(host, script), hosts))


def start(fleet: Fleet) -> None:
    on_all(fleet.group("celery_workers"), "supervisorctl start all")


def stop(fleet: Fleet) -> None:
    on_all(fleet.group("celery_workers"), "supervisorctl stop all")


@contextmanager
def woken(fleet: Fleet, stagger_s: float) -> Iterator[float]:
    """Yields the moment at which it began. supervisorctl waits until each program has started."""

    def wake(place: int, host: Host) -> None:
        time.sleep(place * stagger_s)  # the stagger that is measured
        shell(host, "supervisorctl start all")

    hosts = fleet.group("celery_workers")
    with ThreadPoolExecutor(len(hosts)) as pool:
        began = time.time()
        wakes = [pool.submit(wake, place, host) for place, host in enumerate(hosts)]
        yield began
        for future in wakes:
            future.result()


def processes(fleet: Fleet) -> int:
    return sum(int(count) for count in on_all(fleet.group("celery_workers"), COUNT))


def waiting(fleet: Fleet) -> int:
    """Jobs in all queues except the dead letters, those in delivery and those to be retried included."""
    return sum(count for queue, count in queued_messages(fleet).items() if queue != "dead_letters")


def close_pools(fleet: Fleet) -> None:
    on_all(fleet.group("pgbouncer"), GIVE_BACK)
