"""What was promised: every job that a producer answered with 202, and when."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Job:
    """One job. Its client chooses the key, so a repeated request is the same job."""

    number: int
    seconds: float
    poison: bool = False
    key: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class Accepted:
    job: Job
    at: float
    producer: str
    # Requests that it took. One whose answer was lost may have published the job as well.
    posts: int = 1


@dataclass
class Ledger:
    """One row's jobs. Many threads append to these lists, which needs no lock."""

    accepted: list[Accepted] = field(default_factory=list)
    given_up: list[Job] = field(default_factory=list)
    # When a producer did not accept a job.
    refusals: list[float] = field(default_factory=list)
    # Why clients died.
    deaths: list[str] = field(default_factory=list)
    # How long each answer took, in seconds, and its status; 0: none came.
    answers: list[tuple[float, int]] = field(default_factory=list)
