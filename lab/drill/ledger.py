"""What was promised: every job that a producer answered with 202, and when. Written by many threads."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Job:
    """One job as its client means it. The key is the client's own, so that sending it again is the same job."""

    number: int
    seconds: float
    poison: bool = False
    key: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class Accepted:
    job: Job
    at: float
    producer: str
    # Attempts that it took. One whose answer was lost may have published the job as well.
    posts: int = 1


class Ledger:
    """One row's jobs: the accepted, the given up, each time that a producer did not take one at once, and why a client died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accepted: list[Accepted] = []
        self._given_up: list[Job] = []
        self._refusals: list[float] = []
        self._deaths: list[str] = []
        self._slowest_s = 0.0

    def accept(self, job: Job, at: float, producer: str, posts: int = 1) -> None:
        with self._lock:
            self._accepted.append(Accepted(job, at, producer, posts))

    def refuse(self, at: float) -> None:
        with self._lock:
            self._refusals.append(at)

    def give_up(self, job: Job) -> None:
        with self._lock:
            self._given_up.append(job)

    def die(self, reason: str) -> None:
        with self._lock:
            self._deaths.append(reason)

    def answered(self, seconds: float) -> None:
        with self._lock:
            self._slowest_s = max(self._slowest_s, seconds)

    @property
    def accepted(self) -> list[Accepted]:
        with self._lock:
            return list(self._accepted)

    @property
    def given_up(self) -> list[Job]:
        with self._lock:
            return list(self._given_up)

    @property
    def refusals(self) -> list[float]:
        with self._lock:
            return list(self._refusals)

    @property
    def deaths(self) -> list[str]:
        with self._lock:
            return list(self._deaths)

    @property
    def slowest_s(self) -> float:
        with self._lock:
            return self._slowest_s
