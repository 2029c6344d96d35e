"""The figures of a run: build/demo.json, and the table for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Figures:
    hosts: int
    create_s: float | None
    converge_s: float | None
    accepted: int
    done: int
    failed: int
    lost: int
    accept_ms_p50: float
    accept_ms_p99: float
    wait_s_p50: float
    pg_backends_peak: int


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank: a value that was measured."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def waited_s(record: dict) -> float | None:
    """Seconds from acceptance to a worker's start."""
    try:
        return (datetime.fromisoformat(record["started_at"]) - datetime.fromisoformat(record["accepted_at"])).total_seconds()
    except KeyError:
        return None


def figures(
    *,
    hosts: int,
    create_s: float | None,
    converge_s: float | None,
    accept_s: Sequence[float],
    records: Sequence[dict],
    pg_backends_peak: int,
) -> Figures:
    """records: what the Location of each accepted job reported last."""
    states = [record.get("state") for record in records]
    done, failed = states.count("done"), states.count("failed")
    waits = [waited for record in records if (waited := waited_s(record)) is not None]
    return Figures(
        hosts=hosts,
        create_s=create_s,
        converge_s=converge_s if converge_s is None else round(converge_s, 1),
        accepted=len(records),
        done=done,
        failed=failed,
        lost=len(records) - done - failed,
        accept_ms_p50=round(1000 * percentile(accept_s, 50), 1),
        accept_ms_p99=round(1000 * percentile(accept_s, 99), 1),
        wait_s_p50=round(percentile(waits, 50), 2),
        pg_backends_peak=pg_backends_peak,
    )


def table(result: Figures, took_s: float, proofs: Sequence[str]) -> str:
    def seconds(value: float | None) -> str:
        return "–" if value is None else f"{value:.1f} s"

    accepted = f"202 after {result.accept_ms_p50:.0f} ms (median), {result.accept_ms_p99:.0f} ms (99 %)"
    rows = [
        ("hosts", result.hosts, f"created in {seconds(result.create_s)}, converged in {seconds(result.converge_s)}"),
        ("accepted", result.accepted, accepted),
        ("done", result.done, f"the last one {took_s:.0f} s after the first upload"),
        ("failed", result.failed, "the upload that is not a video, with its reason"),
        ("lost", result.lost, f"a job waited {result.wait_s_p50:.2f} s for its worker (median)"),
        ("backends", result.pg_backends_peak, "server processes in PostgreSQL at most"),
    ]
    lines = [f"  {name:<10}{value:>5}   {note}" for name, value, note in rows]
    rule = "  " + "─" * (max(map(len, lines)) - 2)
    return "\n".join([rule, *lines, rule, *(f"  ✓ {proof}" for proof in proofs)])
