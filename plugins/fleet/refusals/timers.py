"""Timers of which the inner one would outlast the outer one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from fleet.model import Fleet

# Each ends before the next.
TASK_TIMERS = (
    "pgbouncer_query_wait_timeout",
    "application_soft_time_limit",
    "application_time_limit",
    "celery_worker_stopwaitsecs",
    "supervisor_timeout_stop_sec",
)
UPLOAD_TIMERS = ("producer_graceful_timeout", "producer_stopwaitsecs", "supervisor_timeout_stop_sec")
CHAINS = {"celery_worker": (TASK_TIMERS, "a running task"), "producer": (UPLOAD_TIMERS, "an upload")}


def timers_out_of_order(fleet: Fleet) -> Iterator[str]:
    """soft limit < hard limit < stopwaitsecs < the service's stop timeout, and the broker waits longer than a task lasts."""
    for role, (chain, cut) in CHAINS.items():
        for host in fleet.with_role(role):
            for shorter, longer in pairwise(chain):
                low, high = host.number(shorter), host.number(longer)
                if low is not None and high is not None and low >= high:
                    yield (
                        f"{host.name}: {shorter} is {low} s and {longer} is {high} s, but the first must end before the second, "
                        f"or {cut} is cut. Raise {longer} or lower {shorter}."
                    )
    for host in fleet.with_role("celery_worker"):
        limit = host.number("application_time_limit")
        for broker in fleet.with_role("rabbitmq"):
            patience = broker.number("rabbitmq_consumer_timeout")
            if limit is not None and patience is not None and limit * 1000 >= patience:
                yield (
                    f"{host.name}: application_time_limit is {limit} s, but {broker.name} takes a job back after "
                    f"rabbitmq_consumer_timeout, {patience // 1000} s, and runs it again. "
                    f"Raise rabbitmq_consumer_timeout (ms) above the limit."
                )
