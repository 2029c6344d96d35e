"""What a row of the drill amounts to: how long until the hurt part was at work again, and what breaks the promise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lab.drill.ledger import Accepted
from lab.drill.proof import Done

# A second of the row's time line.
BIN_S = 1.0


@dataclass(frozen=True)
class Row:
    fault: str
    kind: str
    accepted: int
    done: int
    dead: int
    lost: int
    second_deliveries: int
    # Of the second deliveries those that began before the job was done: the run before was cut.
    cut: int
    double_effects: int
    # From the fault's end to the end of the first run that began after it, by whom the fault had struck.
    recovery_s: float | None
    limit_s: float
    # From the fault's beginning to its end, and from there until the last job accepted before it was done.
    outage_s: float
    backlog_s: float | None
    poison: int
    # Attempts that a client had to repeat, jobs that it let go of, and jobs done that nobody had got a 202 for.
    repeated: int
    given_up: int
    unpromised: int
    slowest_answer_s: float
    problems: tuple[str, ...] = ()


def recovery_s(accepted: Iterable[Accepted], done: Iterable[Done], ended: float, struck: str, anew: bool) -> float | None:
    """`struck` is a worker's or producer's host; empty where any will do. `anew`: the job must be accepted after the end, too.

    Where workers or the database were struck, that would measure how long the queue has become meanwhile: see backlog_s.
    """
    known = {each.job.key: each for each in accepted if not anew or each.at > ended}
    moments = [
        each.at
        for each in done
        if each.key in known and each.begun > ended and struck in ("", each.worker, known[each.key].producer)
    ]
    return round(max(0.0, min(moments) - ended), 2) if moments else None


def backlog_s(accepted: Iterable[Accepted], done: Iterable[Done], ended: float) -> float | None:
    """None while one of them is not done."""
    moments = {each.key: each.at for each in done}
    before = [each.job.key for each in accepted if each.at <= ended and not each.job.poison]
    if any(key not in moments for key in before):
        return None
    return round(max([0.0, *(moments[key] - ended for key in before)]), 2)


def problems(row: Row, interrupts: bool, seamless: bool) -> list[str]:
    found = []
    if row.lost:
        found.append(f"{row.lost} of {row.accepted} accepted jobs are lost")
    if row.double_effects:
        found.append(f"{row.double_effects} effects happened twice")
    if row.dead != row.poison:
        found.append(f"{row.dead} jobs are dead, and {row.poison} were poison")
    if row.accepted != row.done + row.dead + row.lost:
        found.append(f"{row.accepted} accepted jobs are not {row.done} done, {row.dead} dead and {row.lost} lost")
    if row.recovery_s is None:
        found.append(f"no work again within {row.limit_s:g} s and long after")
    elif row.recovery_s > row.limit_s:
        found.append(f"work again after {row.recovery_s:g} s, and {row.limit_s:g} s are promised")
    if interrupts and not row.cut:
        found.append("no run was cut, so the fault struck nobody at work")
    if seamless and row.cut:
        found.append(f"{row.cut} runs were cut and began again")
    if seamless and row.repeated:
        found.append(f"{row.repeated} answers were not 202")
    return found


def bins(moments: Iterable[float], begin: float, length: int) -> list[int]:
    """How many fall into each second."""
    counts = [0] * length
    for moment in moments:
        place = int((moment - begin) // BIN_S)
        if 0 <= place < length:
            counts[place] += 1
    return counts
