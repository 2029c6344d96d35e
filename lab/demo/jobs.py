"""The jobs of one run: sent by several clients at once, then watched until each has ended."""

from __future__ import annotations

import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from lab.demo import traffic
from lab.demo.fleet import Host
from lab.demo.videos import Video

CLIENTS = 4
# Seconds without any job moving on before the rest counts as lost.
PATIENCE_S = 180.0
ENDED = ("done", "failed")


@dataclass
class Job:
    producer: Host
    answer: traffic.Answer
    # None: the upload that is no video.
    video: Video | None
    told: dict = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.answer.location.rsplit("/", 1)[-1]

    @property
    def state(self) -> str:
        return self.told.get("state", "unknown")


def send(uploads: list[tuple[Video | None, Path]], producers: list[Host]) -> list[Job]:
    def one(upload: tuple[Video | None, Path], producer: Host) -> Job:
        return Job(producer, traffic.post(producer.url, upload[1]), upload[0])

    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(one, uploads, cycle(producers)))


def watch(jobs: list[Job]) -> None:
    """Ask after each job until all have ended, or none has moved for too long."""
    began = moved = time.monotonic()
    line = Line()
    before = Counter()
    while True:
        for job in jobs:
            if job.state not in ENDED:
                job.told = traffic.look(job.answer.location) or job.told
        now = Counter(job.state for job in jobs)
        if now != before:
            before, moved = now, time.monotonic()
        line.show(f"{time.monotonic() - began:4.0f} s   " + ", ".join(f"{now[s]} {s}" for s in STATES if now[s]))
        if all(job.state in ENDED for job in jobs) or time.monotonic() - moved > PATIENCE_S:
            line.end()
            return
        time.sleep(0.5)  # between two looks; PATIENCE_S without a change ends them


STATES = ("unknown", "queued", "running", "done", "failed")


class Line:
    """One line that lives: rewritten on a terminal, repeated every few seconds in a log."""

    EVERY_S = 5.0

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.shown = 0.0
        self.text = ""

    def show(self, text: str) -> None:
        self.text = text
        if self.live:
            print(f"\r  {text}\033[K", end="", flush=True)
        elif time.monotonic() - self.shown > self.EVERY_S:
            self.shown = time.monotonic()
            print(f"  {text}", flush=True)

    def end(self) -> None:
        print("" if self.live else f"  {self.text}", flush=True)
