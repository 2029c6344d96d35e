"""The chain of timers: each must end before the next, or a running task is interrupted or runs twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ..fleet.inputs import number
from ..fleet.model import Fleet, Host
from .clients import uses_bouncer

TASK_TIMERS = (
    "pgbouncer_query_wait_timeout",
    "application_soft_time_limit",
    "application_time_limit",
    "celery_worker_stopwaitsecs",
    "supervisor_timeout_stop_sec",
)
WEB_TIMERS = ("producer_graceful_timeout", "producer_stopwaitsecs", "supervisor_timeout_stop_sec")


@dataclass(frozen=True)
class Timer:
    """On host, ``shorter`` must end before ``longer``; both in seconds.  refusal: the sentence when it does not."""

    host: str
    shorter: str
    seconds: int
    longer: str
    limit: int
    refusal: str

    @property
    def holds(self) -> bool:
        return self.seconds < self.limit


def timers(fleet: Fleet) -> Iterator[Timer]:
    for role, chain, harm in (
        ("celery_worker", TASK_TIMERS, "a running task is interrupted"),
        ("producer", WEB_TIMERS, "an accepted request is interrupted"),
    ):
        for host in fleet.with_role(role):
            for shorter, longer in pairwise(chain):
                low, high = _timer(fleet, host, shorter), _timer(fleet, host, longer)
                if low is None or high is None:
                    continue
                yield Timer(
                    host.name,
                    shorter,
                    low,
                    longer,
                    high,
                    f"{host.name}: {shorter} is {low} s and {longer} is {high} s, but the first must end before the second, "
                    f"or {harm}. Raise {longer} or lower {shorter}.",
                )
    for host in fleet.with_role("celery_worker"):
        yield from _patience(fleet, host)


def _timer(fleet: Fleet, host: Host, name: str) -> int | None:
    """A timer of the host's, or of the PgBouncer that it uses elsewhere."""
    if name.startswith("pgbouncer_"):
        host = next((bouncer for bouncer in fleet.with_role("pgbouncer") if uses_bouncer(host, bouncer)), host)
    return number(host, name)


def _patience(fleet: Fleet, host: Host) -> Iterator[Timer]:
    """A retry waits in the broker (native delayed delivery), not in its worker, so no countdown adds to the limit."""
    limit = number(host, "application_time_limit")
    for broker in fleet.with_role("rabbitmq"):
        patience = number(broker, "rabbitmq_consumer_timeout")
        if limit is None or patience is None:
            continue
        yield Timer(
            host.name,
            "application_time_limit",
            limit,
            "rabbitmq_consumer_timeout",
            patience // 1000,
            f"{host.name}: application_time_limit is {limit} s, but {broker.name} takes a job back after "
            f"rabbitmq_consumer_timeout, {patience // 1000} s, and runs it again. "
            f"Raise rabbitmq_consumer_timeout (ms) above the limit.",
        )


def timers_out_of_order(fleet: Fleet) -> Iterator[str]:
    return (timer.refusal for timer in timers(fleet) if not timer.holds)
