"""The figures and time lines of a herd, and whether the kit keeps its promises about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from lab.demo.figures import percentile
from lab.drill.rows import BIN_S, bins
from lab.herd.evidence import Failed, Finished, reasons

PROCESSES = 200
# This many times slower counts as worse, if nothing failed.
WORSE = 1.5


@dataclass(frozen=True)
class Run:
    """One herd, woken once. Moments are seconds since the epoch; `count` is SQL's count of the accepted jobs."""

    name: str
    processes: int
    began: float
    count: dict[str, int]
    done: list[float]
    finished: list[Finished]
    failed: list[Failed]
    refusals: list[float]
    # Moments, and PostgreSQL's backends for the application.
    backends: list[tuple[float, float]]
    # PostgreSQL's client processes: also those of clients that are still logging in, or being refused.
    server_processes: list[tuple[float, float]]

    @property
    def lasted_s(self) -> int:
        moments = [*self.done, *(run.at for run in self.failed), *self.refusals]
        return int(max([self.began, *moments]) - self.began) + 1


def percentiles(values: Iterable[float]) -> dict[str, float]:
    known = list(values)
    return {"p50": round(percentile(known, 50), 1), "p99": round(percentile(known, 99), 1)}


def figures(run: Run) -> dict:
    first, last = (min(run.done), max(run.done)) if run.done else (run.began, run.began)
    return {
        "name": run.name,
        "processes": run.processes,
        **{name: run.count[name] for name in ("accepted", "done", "lost", "second_deliveries", "double_effects")},
        "peak_backends": int(max((count for _, count in run.backends), default=0)),
        "peak_server_processes": int(max((count for _, count in run.server_processes), default=0)),
        "failed_connections": len(run.failed),
        "failures": reasons(run.failed),
        "refused_by_postgresql": len(run.refusals),
        # From the first job's end to the last one's: the start of the processes takes the same time in all arms.
        "jobs_per_s": round((len(run.done) - 1) / (last - first), 1) if last > first else 0.0,
        "drain_s": round(last - run.began, 1),
        "transaction_ms": percentiles(job.enter_ms for job in run.finished),
        "connect_ms": percentiles(job.connect_ms for job in run.finished),
        "database_ms": percentiles(job.database_ms for job in run.finished),
    }


def time_line(run: Run) -> dict:
    """Figures for each second since the herd was woken; None for a second without samples."""
    length = run.lasted_s
    done = bins(run.done, run.began, length)
    left = [run.count["accepted"] - finished for finished in accumulate(done)]
    slots = by_second(run.finished, run.began, length)
    return {
        "backends": peaks(run.backends, run.began, length),
        "server_processes": peaks(run.server_processes, run.began, length),
        "failed": bins((failure.at for failure in run.failed), run.began, length),
        "refused": bins(run.refusals, run.began, length),
        "done": done,
        "left": left,
        "transaction_p50_ms": [percentile_of(slot, 50, lambda job: job.enter_ms) for slot in slots],
        "transaction_p99_ms": [percentile_of(slot, 99, lambda job: job.enter_ms) for slot in slots],
        "database_p50_ms": [percentile_of(slot, 50, lambda job: job.database_ms) for slot in slots],
        "database_p99_ms": [percentile_of(slot, 99, lambda job: job.database_ms) for slot in slots],
    }


def by_second(finished: Iterable[Finished], began: float, length: int) -> list[list[Finished]]:
    slots: list[list[Finished]] = [[] for _ in range(length)]
    for job in finished:
        place = int((job.at - began) // BIN_S)
        if 0 <= place < length:
            slots[place].append(job)
    return slots


def percentile_of(slot: Sequence[Finished], percent: float, value: Callable[[Finished], float]) -> float | None:
    return round(percentile([value(job) for job in slot], percent), 1) if slot else None


def peaks(samples: Iterable[tuple[float, float]], began: float, length: int) -> list[int | None]:
    """The largest sample of each second."""
    slots: list[int | None] = [None] * length
    for at, count in samples:
        place = int((at - began) // BIN_S)
        if 0 <= place < length:
            slots[place] = max(int(count), slots[place] or 0)
    return slots


def verdict(bouncer: dict, direct: dict, cap: int, sent: int) -> list[dict]:
    """The checks: a sentence for each, and whether it holds."""
    processes = min(bouncer["processes"], direct["processes"])
    accepted = min(bouncer["accepted"], direct["accepted"])
    worse = degraded(bouncer, direct)
    lines = {
        f"{processes} worker processes came back at once; at least {PROCESSES} must": processes >= PROCESSES,
        f"{accepted:,} accepted jobs waited for each herd, of {sent:,} that were sent": accepted >= sent,
        f"with PgBouncer: PostgreSQL had at most {bouncer['peak_backends']} backends; the planned maximum is {cap}": (
            bouncer["peak_backends"] <= cap
        ),
        f"with PgBouncer: {bouncer['failed_connections']} connections failed": bouncer["failed_connections"] == 0,
        f"{bouncer['jobs_per_s']:.0f} jobs per second with PgBouncer, {direct['jobs_per_s']:.0f} without; "
        "PgBouncer must not be slower": bouncer["jobs_per_s"] >= direct["jobs_per_s"],
        f"straight to PostgreSQL: {worse or 'nothing failed or got worse'}": bool(worse),
    }
    for arm in (bouncer, direct):
        fate = f"{arm['name']}: of {arm['accepted']:,} accepted jobs {arm['done']:,} are done, {arm['lost']} are not, "
        fate += f"and {arm['double_effects']} effects happened twice"
        lines[fate] = arm["done"] == arm["accepted"] and not arm["lost"] and not arm["double_effects"]
    return [{"says": sentence, "holds": holds} for sentence, holds in lines.items()]


def degraded(bouncer: dict, direct: dict) -> str:
    """How the direct run failed or got worse; empty if it did not."""
    sentences = []
    if direct["failed_connections"] or direct["refused_by_postgresql"]:
        refused = f"PostgreSQL's log has {direct['refused_by_postgresql']:,} refusals"
        sentences.append(f"{direct['failed_connections']:,} connections failed, and {refused}")
    if direct["jobs_per_s"] * WORSE <= bouncer["jobs_per_s"]:
        sentences.append(f"{direct['jobs_per_s']:.0f} jobs per second instead of {bouncer['jobs_per_s']:.0f}")
    if direct["database_ms"]["p99"] >= bouncer["database_ms"]["p99"] * WORSE:
        sentences.append(
            f"one job in a hundred waited {direct['database_ms']['p99'] / 1000:.1f} s for its database "
            f"instead of {bouncer['database_ms']['p99'] / 1000:.1f} s"
        )
    return "; ".join(sentences)
