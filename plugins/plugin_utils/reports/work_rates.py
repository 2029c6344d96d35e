"""How fast the work queues of a fleet drain, from the counters of its brokers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

Answer = dict[str, Any]

DEAD_LETTERS = "dead_letters"

# Queues that hold no work: Celery's remote control, replies and events, and the steps of its delayed delivery.
DELAYED = re.compile(r"celery_delayed_\d+$")
CELERYS_OWN = re.compile(r"celeryev($|\.)|amq\.|.*\.celery\.pidbox$|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")

# Limits of the time between two reports for a rate: a shorter one is chance, a longer one is history.
SHORTEST_WINDOW_S, LONGEST_WINDOW_S = 5.0, 600.0


@dataclass(frozen=True)
class Rates:
    """Throughput of all work queues together in a window of time."""

    window_s: float
    acknowledged_per_s: float
    arrived_per_s: float


def is_work(queue: str) -> bool:
    return queue != DEAD_LETTERS and not DELAYED.match(queue) and not CELERYS_OWN.match(queue)


def counted(brokers: dict[str, Answer]) -> dict[str, Any]:
    """The latest counters of all nodes, to compare with those of another report."""
    return {
        broker["node"]: {"started_ms": broker["started_ms"], **broker["counters"][-1]}
        for broker in brokers.values()
        if "counters" in broker
    }


def rates(brokers: dict[str, Answer], previous: dict[str, Any]) -> Rates | None:
    """Rates since the last report, if it is recent enough, else over the second in which the brokers were queried."""
    latest = counted(brokers)
    if not latest:
        return None
    if previous.keys() == latest.keys() and all(previous[node]["started_ms"] == latest[node]["started_ms"] for node in latest):
        between = _rates(previous, latest)
        if between and SHORTEST_WINDOW_S <= between.window_s <= LONGEST_WINDOW_S:
            return between
    return _rates({broker["node"]: broker["counters"][0] for broker in brokers.values() if "counters" in broker}, latest)


def _rates(before: dict[str, Any], after: dict[str, Any]) -> Rates | None:
    # Each node counts the acknowledgements of its clients; every node knows the depth of every queue.
    node = min(after)
    window_s = (after[node]["at_ms"] - before[node]["at_ms"]) / 1000
    if window_s <= 0:
        return None
    acknowledged = sum(after[name]["acknowledged"] - before[name]["acknowledged"] for name in after)
    grown = _depth(after[node]["depths"]) - _depth(before[node]["depths"])
    # Arrivals are acknowledgements plus the growth of the queues. Reading a dead letter and moving a job to its retry count as
    # acknowledged too.
    return Rates(round(window_s, 1), max(0, acknowledged) / window_s, max(0, acknowledged + grown) / window_s)


def _depth(depths: list[dict[str, Any]]) -> int:
    return sum(queue["messages"] or 0 for queue in depths if is_work(queue["name"]))


def drain(backlog: int | None, rate: Rates | None) -> dict[str, Any]:
    """How long the backlog lasts: with the present arrivals, and without any."""
    estimate: dict[str, Any] = {"backlog": backlog, "drain_s": None, "drain_without_arrivals_s": None}
    if rate is not None:
        estimate |= {
            "window_s": rate.window_s,
            "acknowledged_per_s": round(rate.acknowledged_per_s, 3),
            "arrived_per_s": round(rate.arrived_per_s, 3),
        }
    if backlog is None:
        return {**estimate, "sentence": "no broker reported the backlog"}
    if backlog == 0:
        return {**estimate, "drain_s": 0.0, "drain_without_arrivals_s": 0.0, "sentence": "nothing waits and nothing runs"}
    if rate is None:
        return {**estimate, "sentence": "no broker reported a rate"}
    window = span(rate.window_s)
    if rate.acknowledged_per_s == 0:
        return {**estimate, "sentence": f"no job finished within {window}, so there is no rate; ask again in a minute"}
    without_arrivals = backlog / rate.acknowledged_per_s
    estimate["drain_without_arrivals_s"] = round(without_arrivals, 1)
    net = rate.acknowledged_per_s - rate.arrived_per_s
    pace = f"{rate.acknowledged_per_s:.3g} jobs/s finish and {rate.arrived_per_s:.3g} jobs/s arrive, over {window}"
    if net <= 0:
        return {**estimate, "sentence": f"the backlog does not shrink; {span(without_arrivals)} if nothing more arrived ({pace})"}
    estimate["drain_s"] = round(backlog / net, 1)
    return {**estimate, "sentence": f"{span(backlog / net)} at the present rate ({pace})"}


def span(seconds: float) -> str:
    """A length of time for a person: 35 s, 12 min, 3.5 h, 2 d."""
    if seconds < 90:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} d"
