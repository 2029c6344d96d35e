"""What a fault needs: the fleet at work, and processes that are running a job."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lab.deadlines import until
from lab.demo.fleet import Fleet, Host
from lab.drill.ledger import Job, Ledger
from lab.drill.load import send
from lab.drill.proof import Book

# Longer than it takes to find and kill the process that runs the job: on a machine with a load of 25 it takes 5 s to ask.
LONG_S = 12.0


@dataclass(frozen=True)
class Scene:
    fleet: Fleet
    inventory: str
    book: Book
    ledger: Ledger
    numbers: Iterator[int]

    def post(self, jobs: list[Job]) -> None:
        """Send jobs in addition to those of the clients, to each producer in turn."""
        producers = self.fleet.group("producers")
        turns = itertools.cycle([producers, producers[::-1]])
        with ThreadPoolExecutor(len(jobs)) as pool:
            list(pool.map(lambda job, turn: send(job, turn, self.ledger), jobs, turns))

    def busy(self, worker: Host) -> list[int]:
        """The processes of this worker that run a long job, the latest first. Long jobs are sent until it has one."""
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
