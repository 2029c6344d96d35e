"""`python -m lab.herd`: wake hundreds of workers on a long queue, with PgBouncer and without, and compare."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from dataclasses import replace

from lab.demo import fleet as fleets
from lab.drill.proof import Book
from lab.herd import plan, report, sweep
from lab.herd.arms import BOUNCER, DIRECT
from lab.herd.measure import WORK_S, measure
from lab.herd.page import page
from lab.machine import BUILD, refusals_shown
from lab.reports import write_report

JOBS = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.herd", description=__doc__)
    parser.add_argument("--inventory", default="inventories/herd")
    parser.add_argument("--no-converge", action="store_true", help="the fleet is provisioned already")
    parser.add_argument("--jobs", type=int, help=f"jobs that wait for each herd (default: {JOBS}; {sweep.JOBS} in a sweep)")
    parser.add_argument("--connection", choices=("job", "process"), default="job", help="what opens one (default: %(default)s)")
    parser.add_argument(
        "--sweep", action="append", default=[], choices=sweep.SWEEPS, help="compare settings instead, in shorter runs"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of a sweep (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.jobs = arguments.jobs or (sweep.JOBS if arguments.sweep else JOBS)
    with refusals_shown():
        kept = sweep.sweep(arguments, BUILD) if arguments.sweep else herd(arguments)
    sys.exit(0 if kept else 1)


def herd(arguments: argparse.Namespace) -> bool:
    began, fleet = time.time(), fleets.read(arguments.inventory)
    book, numbers = Book(fleet), itertools.count(1)
    cap, granted = plan.cap(arguments.inventory)
    facts = {
        "cap": cap,
        "granted": granted,
        "refusal": plan.refusal(arguments.inventory, fleet),
        "conditions": conditions(arguments.connection),
    }
    runs = {}
    # The direct run first: the fleet is left as its inventory says.
    for arm in (DIRECT, BOUNCER):
        print(f"▸ {arm.name}", flush=True)
        first = not runs and not arguments.no_converge
        replace(arm, connection=arguments.connection).apply(arguments.inventory, "site.yml" if first else "")
        runs[arm.name], _ = measure(arm, fleet, book, arguments.jobs, numbers)
    data = report.report_data(runs[BOUNCER.name], runs[DIRECT.name], facts, began, arguments.jobs)
    write_report("herd", data, page(data))
    print(f"\n{report.table(data['arms'])}\n\n{report.sentences(data['verdict'])}\n\n  {BUILD / 'herd.html'}", flush=True)
    return data["kept"]


def conditions(connection: str) -> str:
    opens = "Each job opens its own connection" if connection == "job" else "Each process keeps its connection"
    return f"{opens}, holds it for another {WORK_S * 1000:.0f} ms of work, and all hosts share {os.cpu_count()} cores."


if __name__ == "__main__":
    main()
