"""What a fault needs to know of the fleet at work, and the jobs that it is to catch in the act."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from lab.demo.fleet import Fleet, Host
from lab.drill.ledger import Job, Ledger
from lab.drill.load import send
from lab.drill.proof import Book
from lab.machine import Refusal

# Longer than the way from here to the process that is to be killed.
LONG_S = 4.0
LOOK_S = 0.2

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Scene:
    fleet: Fleet
    inventory: str
    book: Book
    ledger: Ledger
    numbers: Iterator[int]

    def post(self, jobs: list[Job]) -> None:
        """Send jobs beside those of the clients, one for each producer in turn."""
        producers = self.fleet.group("producers")
        turns = itertools.cycle([producers, producers[::-1]])
        with ThreadPoolExecutor(len(jobs)) as pool:
            list(pool.map(lambda job, turn: send(job, turn, self.ledger), jobs, turns))

    def busy(self, worker: Host) -> list[int]:
        """The processes of this worker that have begun a long job, the last first. A few are handed out until it has one."""
        keys: list[str] = []

        def begun() -> list[int]:
            jobs = [Job(next(self.numbers), LONG_S) for _ in self.fleet.group("celery_workers")]
            self.post(jobs)
            keys.extend(job.key for job in jobs)
            query = f"""
                SELECT process FROM deliveries LEFT JOIN done USING (key)
                WHERE key IN ({",".join(f"'{key}'" for key in keys)})
                    AND deliveries.worker LIKE '%@{worker.name}' AND done.key IS NULL
                    AND delivered_at > now() - interval '{LONG_S - 2:g} seconds'
                ORDER BY delivered_at DESC;
            """
            return [int(line) for line in self.book.sql(query).split()]

        return until(f"a long job on {worker.name}", begun, 30)


def until(what: str, look: Callable[[], Seen], deadline_s: float) -> Seen:
    """Look until there is something to see."""
    end = time.monotonic() + deadline_s
    while True:
        if seen := look():
            return seen
        if time.monotonic() > end:
            raise Refusal(f"the drill waited {deadline_s:g} s for {what}, in vain.")
        time.sleep(LOOK_S)  # between two looks; the deadline ends them
