"""`python -m lab.drill`: hurt a fleet at work in every way that is known, and prove that it lost nothing."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from lab.demo import fleet as fleets
from lab.demo.converge import converge
from lab.demo.fleet import Fleet
from lab.drill import report, rows
from lab.drill.faults import FAULTS, SHORT, WITHIN_S, Fault, playbook
from lab.drill.ledger import Ledger
from lab.drill.load import Clients
from lab.drill.proof import Book
from lab.drill.scene import LOOK_S, Scene, until
from lab.machine import REPOSITORY, Refusal, fail, give_back

BUILD = REPOSITORY / "build"

# Jobs a second. Three workers of four processes do four times that; what is left is for catching up after a fault.
RATE = 20.0
# Jobs that are done before a row's fault, and seconds of load after its recovery.
WARM = 10
AFTER_S = 3.0
# So long a row of the whole drill lasts at least: eighteen of them make more than ten thousand jobs on any machine.
ROW_S = 40.0
# Beyond what a row promises, a recovery is waited for so long, to tell late from never.
LATE_S = 60.0
# Until the last accepted job is done: twice a heartbeat, and then some.
DRAIN_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.drill", description=__doc__)
    parser.add_argument("--inventory", default="inventories/drill")
    parser.add_argument("--no-converge", action="store_true", help="the fleet stands as its inventory says")
    parser.add_argument("--short", action="store_true", help=f"a few minutes: {', '.join(SHORT)}")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME", help="this row; may be said again")
    parser.add_argument("--rate", type=float, default=RATE, help="jobs a second (default: %(default)g)")
    parser.add_argument(
        "--row-seconds", type=float, help=f"of load in each row at least (default: {ROW_S:g}, or 0 for some rows)"
    )
    arguments = parser.parse_args()
    known = [fault.name for fault in FAULTS]
    if unknown := set(arguments.fault) - set(known):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there is {', '.join(known)}")
    wanted = arguments.fault or (SHORT if arguments.short else known)
    if arguments.row_seconds is None:
        arguments.row_seconds = ROW_S if wanted is known else 0.0
    try:
        told = drill(arguments, [fault for fault in FAULTS if fault.name in wanted])
    except Refusal as refusal:
        fail(str(refusal))
    finally:
        give_back(BUILD)
    sys.exit(0 if told["kept"] else 1)


def drill(arguments: argparse.Namespace, faults: list[Fault]) -> dict:
    fleet = fleets.read(arguments.inventory)
    if not arguments.no_converge:
        converge(arguments.inventory)
    book, numbers = Book(fleet), itertools.count(1)
    book.begin()
    began = time.time()
    made, lines, unended = [], {}, {}
    for fault in faults:
        print(f"▸ {fault.name}", flush=True)
        try:
            row, lines[fault.name] = run(fault, fleet, arguments, book, numbers)
        except Refusal as refusal:
            # The others are still worth knowing.
            unended[fault.name] = str(refusal)
            print(f"  ✗ {refusal}", file=sys.stderr, flush=True)
        else:
            made.append(row)
            print(f"  {report.sentence(row)}", flush=True)
            for problem in row.problems:
                print(f"  ✗ {problem}", file=sys.stderr, flush=True)
        told = report.told(made, lines, unended, began, arguments.rate)
        report.write(told, BUILD)
    print("\n" + report.table(made) + f"\n\n{report.verdict(told)}", flush=True)
    return told


def run(fault: Fault, fleet: Fleet, arguments: argparse.Namespace, book: Book, numbers: Iterator[int]) -> tuple[rows.Row, dict]:
    ledger = Ledger()
    scene = Scene(fleet, arguments.inventory, book, ledger, numbers)
    began = time.time()
    struck = fault.affects(fleet).name if fault.affects else ""
    limit_s = WITHIN_S[fault.kind]
    with Clients(fleet.group("producers"), arguments.rate, ledger, numbers, seed=len(fault.name)):
        until("the first jobs to be done", lambda: len(book.done_since(began) or []) >= WARM, 90)
        hurt = ended = fault.hurt(scene)
        if fault.heal:
            time.sleep(fault.hold_s)  # the fault itself lasts this long
            ended = fault.heal(scene)
        late = time.monotonic() + limit_s + LATE_S
        while time.monotonic() < late:
            if rows.recovery_s(ledger.accepted, book.done_since(ended) or [], ended, struck, fault.accepts) is not None:
                break
            time.sleep(LOOK_S)  # between two looks; `late` ends them
        # The load goes on after the recovery, for the time line and to make the row's share of the jobs.
        time.sleep(max(AFTER_S, began + arguments.row_seconds - time.time()))
    wait_for_the_rest(book, ledger, began)
    return settle(fault, scene, (began, hurt, ended), struck)


def wait_for_the_rest(book: Book, ledger: Ledger, began: float) -> None:
    wanted = {each.job.key for each in ledger.accepted if not each.job.poison}
    end = time.monotonic() + DRAIN_S
    while time.monotonic() < end:
        if wanted <= {each.key for each in book.done_since(began) or []}:
            return
        time.sleep(LOOK_S)  # between two looks; DRAIN_S ends them


def settle(fault: Fault, scene: Scene, moments: tuple[float, float, float], struck: str) -> tuple[rows.Row, dict]:
    """Enter what was accepted beside what was done, and let SQL judge."""
    book, ledger, (began, hurt, ended) = scene.book, scene.ledger, moments
    accepted, done = ledger.accepted, until("the database", lambda: book.done_since(began), 60)
    book.enter(fault.name, accepted)
    count = book.count(fault.name)
    if count["done"] != count["accepted"]:
        book.enter_dead(dead(scene))
        count = book.count(fault.name)
    row = rows.Row(
        fault=fault.name,
        kind=fault.kind,
        recovery_s=rows.recovery_s(accepted, done, ended, struck, fault.accepts),
        limit_s=WITHIN_S[fault.kind],
        outage_s=round(ended - hurt, 2),
        backlog_s=rows.backlog_s(accepted, done, ended),
        repeated=len(ledger.refusals),
        given_up=len(ledger.given_up),
        unpromised=len({each.key for each in done} & {job.key for job in ledger.given_up}),
        slowest_answer_s=round(ledger.slowest_s, 2),
        **{
            name: count[name]
            for name in ("accepted", "poison", "done", "dead", "lost", "second_deliveries", "cut", "double_effects")
        },
    )
    length = int(max([ended, *(each.at for each in done)]) - began) + 1
    line = {
        "hurt_s": round(hurt - began, 2),
        "ended_s": round(ended - began, 2),
        "accepted": rows.bins((each.at for each in accepted), began, length),
        "done": rows.bins((each.at for each in done), began, length),
        "repeated": rows.bins(ledger.refusals, began, length),
    }
    return replace(row, problems=tuple(rows.problems(row, fault.interrupts, fault.seamless))), line


def dead(scene: Scene) -> list[str]:
    """The dead letters' keys, by the command that an operator uses."""
    playbook(scene, "playbooks/dead_letters.yml", "--extra-vars", "dead_letters_limit=100000")
    letters = json.loads((BUILD / "dead_letters.json").read_text(encoding="utf-8"))["letters"]
    return [letter["id"] for letter in letters if letter["vhost"] == scene.book.application]


if __name__ == "__main__":
    main()
