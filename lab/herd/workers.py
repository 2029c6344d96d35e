"""The worker hosts as the herd needs them: asleep, woken all at once, and counted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from lab.demo.fleet import Fleet, Host
from lab.drill.hosts import broker, shell

# Everything below supervisord's programs; their main processes run no task.
COUNT = """
for pid in $(supervisorctl status | sed -n 's/.* RUNNING *pid \\([0-9]*\\),.*/\\1/p'); do pgrep -P "$pid"; done | wc -l
"""
# A pool keeps its idle connections for ten minutes, and would take the direct run's places.
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
    """Yields the moment at which it began. supervisorctl itself waits until each program counts as started."""

    def wake(place: int, host: Host) -> None:
        time.sleep(place * stagger_s)  # what is measured: hosts that start one after the other
        shell(host, "supervisorctl start all")

    hosts = fleet.group("celery_workers")
    with ThreadPoolExecutor(len(hosts)) as pool:
        began = time.time()
        waking = [pool.submit(wake, place, host) for place, host in enumerate(hosts)]
        yield began
        for each in waking:
            each.result()


def processes(fleet: Fleet) -> int:
    return sum(int(said) for said in on_all(fleet.group("celery_workers"), COUNT))


def waiting(fleet: Fleet) -> int:
    """Jobs in all queues but the dead letters, those that a worker has and those that come again later included."""
    vhost = fleet.group("celery_workers")[0].application
    said = json.loads(shell(broker(fleet), f"rabbitmqctl -q --formatter=json list_queues -p {vhost} name messages"))
    return sum(queue["messages"] for queue in said if queue["name"] != "dead_letters")


def close_pools(fleet: Fleet) -> None:
    on_all(fleet.group("pgbouncer"), GIVE_BACK)
