"""The jobs of one run: sent by several clients at once, then watched until each has ended."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from lab.demo import traffic
from lab.demo.fleet import Host
from lab.demo.videos import Video
from lab.progress import Progress

CLIENTS = 4
# After this time without any change the remaining jobs count as lost.
PATIENCE_S = 180.0
STATES = ("unknown", "queued", "running", "done", "failed")
ENDED = ("done", "failed")


@dataclass
class Job:
    producer: Host
    answer: traffic.Answer
    # None: the upload that is not a video.
    video: Video | None
    # What its Location reported last.
    record: dict = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.answer.location.rsplit("/", 1)[-1]

    @property
    def state(self) -> str:
        return self.record.get("state", "unknown")


def send(uploads: list[tuple[Video | None, Path]], producers: list[Host]) -> list[Job]:
    def post(upload: tuple[Video | None, Path], producer: Host) -> Job:
        return Job(producer, traffic.post(producer.url, upload[1]), upload[0])

    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(post, uploads, cycle(producers)))


def watch(jobs: list[Job]) -> None:
    """Ask for each job until all have ended, or none has changed for too long."""
    changed, before = time.monotonic(), Counter()
    with Progress("jobs") as progress:
        while True:
            for job in jobs:
                if job.state not in ENDED:
                    job.record = traffic.look(job.answer.location) or job.record
            now = Counter(job.state for job in jobs)
            if now != before:
                before, changed = now, time.monotonic()
            progress.step = ", ".join(f"{now[state]} {state}" for state in STATES if now[state])
            if all(job.state in ENDED for job in jobs) or time.monotonic() - changed > PATIENCE_S:
                return
            time.sleep(0.5)  # between two looks; PATIENCE_S without a change ends them
