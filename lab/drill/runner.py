"""One row: the load, the fault, the evidence that it struck, and the fate of each accepted job."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace

from lab.deadlines import poll, until
from lab.drill import proof, rows
from lab.drill.faults.fault import WITHIN_S, Fault, playbook
from lab.drill.ledger import Accepted
from lab.drill.load import Clients
from lab.drill.scene import Scene
from lab.machine import BUILD, Refusal

# Jobs done before a row's fault, and seconds of load after its recovery.
WARM = 10
AFTER_S = 3.0
# How much longer than promised to wait for a recovery, to tell late from never.
LATE_S = 60.0
# For the last accepted job to be done: more than two heartbeats.
DRAIN_S = 120.0
FIGURES = {"cut": "runs cut and begun again", "repeated": "answers other than 202", "dead": "dead letters"}


@dataclass
class Course:
    """A row so far."""

    began: float = field(default_factory=time.time)
    load_s: float = 0.0
    hurt: float | None = None
    ended: float | None = None
    looks: list[dict[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def run(fault: Fault, scene: Scene, rate: float, row_s: float) -> tuple[rows.Row, dict]:
    course = Course()
    try:
        with fault.stage(scene) if fault.stage else nullcontext():
            course.began = time.time()
            with Clients(scene.fleet.group("producers"), rate, scene.ledger, scene.numbers, seed=len(fault.name)):
                try:
                    strike(fault, scene, course)
                    # For the time line after the recovery, and for the row's share of the jobs.
                    time.sleep(max(AFTER_S, course.began + row_s - time.time()))  # the clients go on for the rest of the row
                finally:
                    course.load_s = time.time() - course.began
    except Exception as error:
        # The jobs accepted until then are promised, so settle the row like any other.
        course.failures.append(str(error) if isinstance(error, Refusal) else f"{type(error).__name__}: {error}")
        print(f"  ✗ {course.failures[-1]}", file=sys.stderr, flush=True)  # the row may have no other end
    course.failures += [f"a client died: {reason}" for reason in scene.ledger.deaths]
    wait_for_the_rest(scene, course.began)
    return settle(fault, scene, course, rate)


def strike(fault: Fault, scene: Scene, course: Course) -> None:
    until("the first jobs to be done", lambda: len(scene.book.done_since(course.began) or []) >= WARM, 90)
    look(fault, scene, course)
    try:
        course.hurt = course.ended = fault.hurt(scene)
        time.sleep(fault.hold_s)  # the fault itself lasts this long
        look(fault, scene, course)
    except BaseException:
        if fault.heal:
            with suppress(Exception):
                fault.heal(scene)
        raise
    if fault.heal:
        course.ended = None
        course.ended = fault.heal(scene)
    poll(lambda: resumed_s(fault, scene, course.ended) is not None, WITHIN_S[fault.kind] + LATE_S)
    look(fault, scene, course)


def look(fault: Fault, scene: Scene, course: Course) -> None:
    course.looks.append({reading.name(scene): reading.look(scene) for reading in fault.readings})


def resumed_s(fault: Fault, scene: Scene, ended: float) -> float | None:
    struck = fault.affects(scene.fleet).name if fault.affects else ""
    return rows.resumed_s(scene.ledger.accepted, scene.book.done_since(ended) or [], ended, struck, fault.accepts)


def wait_for_the_rest(scene: Scene, began: float) -> None:
    accepted = {entry.job.key for entry in scene.ledger.accepted if not entry.job.poison}
    poll(lambda: accepted <= {run.key for run in scene.book.done_since(began) or []}, DRAIN_S)


def settle(fault: Fault, scene: Scene, course: Course, rate: float) -> tuple[rows.Row, dict]:
    """Compare the accepted jobs with those done."""
    ledger, began = scene.ledger, course.began
    accepted = ledger.accepted
    (done,) = until("the database", lambda: [done] if (done := scene.book.done_since(began)) is not None else [], 60)
    traces = scene.book.traces()
    count = proof.count(accepted, traces)
    if count["lost"]:
        count = proof.count(accepted, traces, dead_letters(scene))
    outage_s = None if course.hurt is None or course.ended is None else round(course.ended - course.hurt, 2)
    deaf_s = outage_s or 0.0 if fault.accepts and not fault.seamless else 0.0
    shown, unseen = rows.evidence(course.looks)
    row = rows.Row(
        fault=fault.name,
        kind=fault.kind,
        **count,
        expected=rows.expected(rate, course.load_s, deaf_s),
        outage_s=outage_s,
        outage_limit_s=fault.ends_within_s,
        resumed_s=resumed_s(fault, scene, course.ended) if course.ended else None,
        resume_limit_s=WITHIN_S[fault.kind],
        backlog_s=rows.backlog_s(accepted, done, course.ended) if course.ended else None,
        repeated=len(ledger.refusals),
        unavailable_share=rows.unavailable_share(ledger.answers),
        given_up=len(ledger.given_up),
        given_up_limit=rows.given_up_limit(deaf_s, WITHIN_S[fault.kind]),
        unpromised=len({run.key for run in done} & {job.key for job in ledger.given_up}),
        slowest_answer_s=round(max((took for took, _ in ledger.answers), default=0.0), 2),
        accept_gap_s=rows.longest_gap_s((entry.at for entry in accepted), course.began, course.began + course.load_s),
        work_gap_s=rows.longest_gap_s((run.at for run in done), course.began, course.began + course.load_s),
        accept_gap_limit_s=fault.accept_gap_s,
        work_gap_limit_s=fault.work_gap_s,
        evidence=shown,
        unseen=tuple(unseen),
        failures=tuple(course.failures),
        seamless=fault.seamless,
    )
    figures = {FIGURES[name]: getattr(row, name) for name in fault.shows}
    row = replace(
        row,
        evidence=shown | {name: str(number) for name, number in figures.items()},
        unseen=(*row.unseen, *(f"0 {name}" for name, number in figures.items() if not number)),
    )
    return replace(row, problems=tuple(rows.problems(row))), time_line(scene, course, done)


def time_line(scene: Scene, course: Course, done: list[proof.Done]) -> dict:
    began, accepted, moments = course.began, scene.ledger.accepted, [run.at for run in done]
    hurt = began if course.hurt is None else course.hurt
    ended = hurt if course.ended is None else course.ended
    length = int(max([ended, *moments]) - began) + 1
    return {
        "hurt_s": round(hurt - began, 2),
        "ended_s": round(ended - began, 2),
        "accepted": rows.bins((entry.at for entry in accepted), began, length),
        "done": rows.bins(moments, began, length),
        "repeated": rows.bins(scene.ledger.refusals, began, length),
    }


def dead_letters(scene: Scene) -> set[str]:
    """The dead letters' keys, by the playbook that an operator uses."""
    playbook(scene, "playbooks/dead_letters.yml", "--extra-vars", "dead_letters_limit=100000")
    letters = json.loads((BUILD / "dead_letters.json").read_text(encoding="utf-8"))["letters"]
    return {letter["id"] for letter in letters if letter["vhost"] == scene.book.application}


def recount(settled: list[tuple[rows.Row | None, list[Accepted]]], scene: Scene) -> tuple[list[rows.Row], list[str]]:
    """Count every row again at the end: a later fault may have lost an earlier row's jobs.

    Also returns sentences about jobs whose row could not be settled.
    """
    traces, dead = scene.book.traces(), dead_letters(scene)
    recounted, problems = [], []
    for row, accepted in settled:
        count = proof.count(accepted, traces, dead)
        if row is None:
            if count["lost"] or count["double_effects"]:
                problems.append(
                    f"of a row that was not settled, {count['lost']} jobs are lost, {count['double_effects']} done twice"
                )
            continue
        final = replace(row, **count)
        later = [f"counted again at the end: {problem}" for problem in rows.problems(final) if problem not in row.problems]
        recounted.append(replace(final, problems=(*row.problems, *later)))
    return recounted, problems
