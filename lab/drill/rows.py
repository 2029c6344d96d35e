"""What a row of the drill amounts to: how long until the hurt part was at work again, and what breaks the promise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.drill.ledger import Accepted
from lab.drill.load import CLIENTS, PERSISTENCE_S
from lab.drill.proof import Done

# A second of the row's time line.
BIN_S = 1.0
# Of the jobs that the rate asks for, so many must be accepted: a row under less load proves less.
SHARE = 0.5
# What a host answers that does not run or cannot say.
SILENT = "no answer"


@dataclass(frozen=True)
class Row:
    fault: str
    kind: str
    accepted: int
    poison: int
    done: int
    dead: int
    lost: int
    doubled: int
    second_deliveries: int
    # Of the second deliveries those that began before the job was done: the run before was cut.
    cut: int
    double_effects: int
    # Accepted jobs that the row must have at least.
    expected: int
    # From the fault's beginning to its end, and from there to the end of the first run that began afterwards. None: never.
    outage_s: float | None
    outage_limit_s: float
    resumed_s: float | None
    resume_limit_s: float
    # From the fault's end until the last job accepted before it was done.
    backlog_s: float | None
    # Attempts that a client had to repeat, jobs that it let go of, and jobs done that nobody had got a 202 for.
    repeated: int
    given_up: int
    given_up_limit: int
    unpromised: int
    slowest_answer_s: float
    # What shows that the fault struck, and what should show it and does not.
    evidence: Mapping[str, str]
    unseen: tuple[str, ...] = ()
    # Why the row ended early, or a client died.
    failures: tuple[str, ...] = ()
    seamless: bool = False
    problems: tuple[str, ...] = ()

    @property
    def recovery_s(self) -> float | None:
        """From the fault's beginning until work."""
        return None if self.outage_s is None or self.resumed_s is None else round(self.outage_s + self.resumed_s, 2)

    @property
    def limit_s(self) -> float:
        return self.outage_limit_s + self.resume_limit_s


def resumed_s(accepted: Iterable[Accepted], done: Iterable[Done], ended: float, struck: str, later: bool) -> float | None:
    """`struck` is a worker's or producer's host; empty where any will do. `later`: the job must be accepted after the end, too.

    Where workers or the database were struck, that would measure how long the queue has become meanwhile: see backlog_s.
    """
    known = {each.job.key: each for each in accepted if not later or each.at > ended}
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


def expected(rate: float, load_s: float, outage_s: float) -> int:
    """`outage_s`: while nobody, or only every other producer, can accept."""
    return int(SHARE * rate * max(0.0, load_s - outage_s))


def given_up_limit(outage_s: float, resume_limit_s: float) -> int:
    """Nobody but in an outage, and then each client once in the time for which it persists."""
    return CLIENTS * int((outage_s + resume_limit_s) // PERSISTENCE_S) if outage_s else 0


def evidence(looks: Sequence[Mapping[str, str]]) -> tuple[dict[str, str], list[str]]:
    """What was read before the fault, during it and afterwards: as text, and what never changed."""
    shown, unseen = {}, []
    for what, first in looks[0].items() if looks else ():
        values = [look.get(what, SILENT) for look in looks]
        shown[what] = " → ".join(value for place, value in enumerate(values) if not place or value != values[place - 1])
        if first == SILENT or not {*values} - {first, SILENT}:
            unseen.append(f"{what} was {first} all the time")
    return shown, unseen


def problems(row: Row) -> list[str]:
    found = [*row.failures]
    if row.lost:
        found.append(f"{row.lost} of {row.accepted} accepted jobs are lost")
    if row.double_effects:
        found.append(f"{row.double_effects} effects happened twice")
    if row.dead != row.poison:
        found.append(f"{row.dead} jobs are dead, and {row.poison} were poison")
    if row.accepted < row.expected:
        found.append(f"{row.accepted} jobs were accepted, and {row.expected} is the least at this rate")
    if row.given_up > row.given_up_limit:
        found.append(f"clients gave up {row.given_up} jobs, and {row.given_up_limit} is the most in such an outage")
    if not row.evidence:
        found.append("nothing shows that the fault struck")
    found += [f"{what}: the fault struck nobody" for what in row.unseen]
    return found + timely(row) + disturbance(row)


def timely(row: Row) -> list[str]:
    if row.outage_s is None:
        return ["the fault did not come to its end"]
    found = []
    if row.outage_s > row.outage_limit_s:
        found.append(f"the fault lasted {row.outage_s:g} s, and {row.outage_limit_s:g} s are allowed")
    if row.resumed_s is None:
        found.append(f"no work again within {row.resume_limit_s:g} s of the fault's end and long after")
    elif row.resumed_s > row.resume_limit_s:
        found.append(f"work again {row.resumed_s:g} s after the fault's end, and {row.resume_limit_s:g} s are promised")
    return found


def disturbance(row: Row) -> list[str]:
    if not row.seamless:
        return []
    found = []
    if row.cut:
        found.append(f"{row.cut} runs were cut and began again")
    if row.repeated:
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
