"""The figures of a row: how long until the struck part worked again, and what breaks the promise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lab.drill.ledger import Accepted
from lab.drill.load import CLIENTS, PERSISTENCE_S
from lab.drill.proof import Done

# The resolution of time lines.
BIN_S = 1.0
# This share of the jobs that the rate asks for must be accepted: a row under less load proves less.
SHARE = 0.5
# The reading of a host that does not run or cannot tell.
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
    # Second deliveries that began before the job was done: the run before was cut.
    cut: int
    double_effects: int
    # The least number of accepted jobs.
    expected: int
    # From the fault's start to its end, and from there to the end of the first run that began afterwards. None: never.
    outage_s: float | None
    outage_limit_s: float
    resumed_s: float | None
    resume_limit_s: float
    # From the fault's end until all jobs accepted before it were done.
    backlog_s: float | None
    # Requests that clients repeated, jobs that they gave up, and jobs done without a 202.
    repeated: int
    # Of all answers, those that were a 503.
    unavailable_share: float
    given_up: int
    given_up_limit: int
    unpromised: int
    slowest_answer_s: float
    # The longest time in which no job was accepted, and in which none was done.
    accept_gap_s: float
    work_gap_s: float
    # What shows that the fault struck, and what should show it but does not.
    evidence: Mapping[str, str]
    unseen: tuple[str, ...] = ()
    # Why the row ended early, or a client died.
    failures: tuple[str, ...] = ()
    seamless: bool = False
    # The most that the gaps may be; 0: no limit.
    accept_gap_limit_s: float = 0.0
    work_gap_limit_s: float = 0.0
    problems: tuple[str, ...] = ()

    @property
    def recovery_s(self) -> float | None:
        """From the fault's start until work resumed."""
        return None if self.outage_s is None or self.resumed_s is None else round(self.outage_s + self.resumed_s, 2)

    @property
    def limit_s(self) -> float:
        return self.outage_limit_s + self.resume_limit_s


def resumed_s(accepted: Iterable[Accepted], done: Iterable[Done], ended: float, struck: str, later: bool) -> float | None:
    """`struck`: the worker or producer host that must be involved; empty: any. `later`: the job must also be accepted afterwards.

    If workers or the database were struck, `later` would measure the length of the queue: see backlog_s.
    """
    known = {entry.job.key: entry for entry in accepted if not later or entry.at > ended}
    moments = [
        run.at for run in done if run.key in known and run.begun > ended and struck in ("", run.worker, known[run.key].producer)
    ]
    return round(max(0.0, min(moments) - ended), 2) if moments else None


def backlog_s(accepted: Iterable[Accepted], done: Iterable[Done], ended: float) -> float | None:
    """None while one of them is not done."""
    moments = {run.key: run.at for run in done}
    before = [entry.job.key for entry in accepted if entry.at <= ended and not entry.job.poison]
    if any(key not in moments for key in before):
        return None
    return round(max([0.0, *(moments[key] - ended for key in before)]), 2)


def longest_gap_s(moments: Iterable[float], began: float, ended: float) -> float:
    """The longest time between two of the moments, or from the beginning or to the end.

    >>> longest_gap_s([2.0, 3.5, 9.0], 1.0, 10.0)
    5.5
    """
    within = sorted(moment for moment in moments if began <= moment <= ended)
    return round(max(later - earlier for earlier, later in pairwise([began, *within, ended])), 2)


def unavailable_share(answers: Sequence[tuple[float, int]]) -> float:
    """
    >>> unavailable_share([(0.1, 202), (0.2, 503), (5.0, 0), (0.1, 202)])
    0.25
    """
    return round(sum(status == 503 for _, status in answers) / max(1, len(answers)), 4)


def expected(rate: float, load_s: float, outage_s: float) -> int:
    """`outage_s`: the time in which no producer, or not every one, can accept."""
    return int(SHARE * rate * max(0.0, load_s - outage_s))


def given_up_limit(outage_s: float, resume_limit_s: float) -> int:
    """0 without an outage; otherwise each client may give up once per PERSISTENCE_S."""
    return CLIENTS * int((outage_s + resume_limit_s) // PERSISTENCE_S) if outage_s else 0


def evidence(looks: Sequence[Mapping[str, str]]) -> tuple[dict[str, str], list[str]]:
    """The readings before the fault, during it and afterwards, as text; and sentences about those that never changed."""
    shown, unseen = {}, []
    for name, first in looks[0].items() if looks else ():
        values = [look.get(name, SILENT) for look in looks]
        shown[name] = " → ".join(value for place, value in enumerate(values) if not place or value != values[place - 1])
        if first == SILENT or not {*values} - {first, SILENT}:
            unseen.append(f"{name} was {first} all the time")
    return shown, unseen


def problems(row: Row) -> list[str]:
    sentences = [*row.failures]
    if row.lost:
        sentences.append(f"{row.lost} of {row.accepted} accepted jobs are lost")
    if row.double_effects:
        sentences.append(f"{row.double_effects} effects happened twice")
    if row.dead != row.poison:
        sentences.append(f"{row.dead} jobs are dead, and {row.poison} were poison")
    if row.accepted < row.expected:
        sentences.append(f"{row.accepted} jobs were accepted, and {row.expected} is the least at this rate")
    if row.given_up > row.given_up_limit:
        sentences.append(f"clients gave up {row.given_up} jobs, and {row.given_up_limit} is the most in such an outage")
    if not row.evidence:
        sentences.append("nothing shows that the fault struck")
    sentences += [f"{reading}: the fault struck nobody" for reading in row.unseen]
    return sentences + delays(row) + disturbances(row)


def delays(row: Row) -> list[str]:
    if row.outage_s is None:
        return ["the fault did not end"]
    sentences = []
    if row.outage_s > row.outage_limit_s:
        sentences.append(f"the fault lasted {row.outage_s:g} s, and {row.outage_limit_s:g} s are allowed")
    if row.resumed_s is None:
        sentences.append(f"no work again within {row.resume_limit_s:g} s of the fault's end, or long after")
    elif row.resumed_s > row.resume_limit_s:
        sentences.append(f"work again {row.resumed_s:g} s after the fault's end, and {row.resume_limit_s:g} s are promised")
    if 0 < row.accept_gap_limit_s < row.accept_gap_s:
        sentences.append(f"no job was accepted for {row.accept_gap_s:g} s, and {row.accept_gap_limit_s:g} s are promised")
    if 0 < row.work_gap_limit_s < row.work_gap_s:
        sentences.append(f"no job was done for {row.work_gap_s:g} s, and {row.work_gap_limit_s:g} s are promised")
    return sentences


def disturbances(row: Row) -> list[str]:
    if not row.seamless:
        return []
    sentences = []
    if row.cut:
        sentences.append(f"{row.cut} runs were cut and began again")
    if row.repeated:
        sentences.append(f"{row.repeated} answers were not 202")
    return sentences


def bins(moments: Iterable[float], begin: float, length: int) -> list[int]:
    """How many are in each second."""
    counts = [0] * length
    for moment in moments:
        place = int((moment - begin) // BIN_S)
        if 0 <= place < length:
            counts[place] += 1
    return counts
