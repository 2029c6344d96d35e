"""What a run amounts to: the figures of build/demo.json, and the table that a person reads."""

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
    """The nearest rank: a value that was really measured."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def waited_s(told: dict) -> float | None:
    """Seconds from acceptance to a worker's start, from what a Location tells."""
    try:
        return (datetime.fromisoformat(told["started_at"]) - datetime.fromisoformat(told["accepted_at"])).total_seconds()
    except KeyError:
        return None


def figures(
    *,
    hosts: int,
    create_s: float | None,
    converge_s: float | None,
    accept_s: Sequence[float],
    told: Sequence[dict],
    pg_backends_peak: int,
) -> Figures:
    """`told` is what the Location of each accepted job said last."""
    states = [one.get("state") for one in told]
    done, failed = states.count("done"), states.count("failed")
    waits = [waited for one in told if (waited := waited_s(one)) is not None]
    return Figures(
        hosts=hosts,
        create_s=create_s,
        converge_s=converge_s if converge_s is None else round(converge_s, 1),
        accepted=len(told),
        done=done,
        failed=failed,
        lost=len(told) - done - failed,
        accept_ms_p50=round(1000 * percentile(accept_s, 50), 1),
        accept_ms_p99=round(1000 * percentile(accept_s, 99), 1),
        wait_s_p50=round(percentile(waits, 50), 2),
        pg_backends_peak=pg_backends_peak,
    )


def table(f: Figures, took_s: float, proofs: Sequence[str]) -> str:
    def seconds(value: float | None) -> str:
        return "–" if value is None else f"{value:.1f} s"

    rows = [
        ("hosts", f"{f.hosts}", f"created in {seconds(f.create_s)}, converged in {seconds(f.converge_s)}"),
        ("accepted", f"{f.accepted}", f"202 after {f.accept_ms_p50:.0f} ms (median), {f.accept_ms_p99:.0f} ms (99 %)"),
        ("done", f"{f.done}", f"the last of them {took_s:.0f} s after the first upload"),
        ("failed", f"{f.failed}", "the upload that is no video, with its reason"),
        ("lost", f"{f.lost}", f"a job waited {f.wait_s_p50:.2f} s for its worker (median)"),
        ("backends", f"{f.pg_backends_peak}", "server processes in PostgreSQL at most"),
    ]
    lines = [f"  {name:<10}{value:>5}   {note}" for name, value, note in rows]
    width = max(len(line) for line in lines)
    rule = "  " + "─" * (width - 2)
    return "\n".join([rule, *lines, rule, *(f"  ✓ {proof}" for proof in proofs)])
