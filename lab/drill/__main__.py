"""`python -m lab.drill`: inject every known fault into a fleet at work, and prove that it lost nothing."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from lab.demo import fleet as fleets
from lab.drill import proof, report
from lab.drill.faults import APART, FAULTS, GROWTH, HA_FAULTS, MOVE, SHORT, Fault
from lab.drill.faults.growth import single
from lab.drill.faults.moves import before
from lab.drill.ledger import Ledger
from lab.drill.proof import Book
from lab.drill.runner import recount, run
from lab.drill.scene import Scene
from lab.machine import Refusal, refusals_shown
from lab.playbooks import converge

# Jobs per second. Three workers with four processes do four times that; the rest is for catching up after a fault.
RATE = 20.0
# Each row of the whole drill lasts at least this long: together they make over ten thousand jobs on any machine.
ROW_S = 40.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.drill", description=__doc__)
    every = {fault.name: fault for fault in (*FAULTS, *HA_FAULTS, *APART)}
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--inventory", default="inventories/drill")
    parser.add_argument("--no-converge", action="store_true", help="the fleet is provisioned already")
    parser.add_argument("--short", action="store_true", help=f"a few minutes: {', '.join(SHORT)}")
    parser.add_argument("--members", action="store_true", help="the rows of a fleet with three core hosts")
    parser.add_argument(
        "--fault", action="append", default=[], choices=list(every), metavar="NAME", help="this row; may be repeated"
    )
    parser.add_argument("--rate", type=float, default=RATE, help="jobs per second (default: %(default)g)")
    parser.add_argument(
        "--row-seconds", type=float, help=f"minimum seconds of load in each row (default: {ROW_S:g}, or 0 for selected rows)"
    )
    arguments = parser.parse_args()
    if arguments.members:
        names = [fault.name for fault in HA_FAULTS]
    wanted = arguments.fault or (SHORT if arguments.short else names)
    if arguments.row_seconds is None:
        arguments.row_seconds = ROW_S if wanted is names else 0.0
    with refusals_shown():
        data = drill(arguments, [every[name] for name in wanted])
    sys.exit(0 if data["kept"] else 1)


def drill(arguments: argparse.Namespace, faults: list[Fault]) -> dict:
    fleet = fleets.read(arguments.inventory)
    if not arguments.no_converge:
        for host in fleet.hosts:
            # A cloud image's active ufw would be refused; this is the refusal's remedy.
            host.run(["sh", "-c", "! command -v ufw || ufw disable"])
        converge(beginning(arguments.inventory, faults[0]))
    book, numbers = Book(fleet), itertools.count(1)
    book.begin()
    data = report.Report(began=time.time(), rate=arguments.rate)
    settled = []
    scene = Scene(fleet, arguments.inventory, book, Ledger(), numbers)
    for fault in faults:
        print(f"▸ {fault.name}", flush=True)
        scene = Scene(fleet, arguments.inventory, book, Ledger(), numbers)
        try:
            row, data.lines[fault.name] = run(fault, scene, arguments.rate, arguments.row_seconds)
        except Refusal as refusal:
            # The other rows still run, and the jobs that this one accepted are counted at the end.
            settled.append((None, scene.ledger.accepted))
            data.unended[fault.name] = str(refusal)
            print(f"  ✗ {refusal}", file=sys.stderr, flush=True)
        else:
            settled.append((row, scene.ledger.accepted))
            data.rows.append(row)
            report.announce(row)
        data.write()
    try:
        data.rows, data.problems = recount(settled, scene)
        data.ledger = book.totals()
        data.problems += proof.unbalanced(data.ledger)
    except Refusal as refusal:
        data.unended["the count at the end"] = str(refusal)
    data.write()
    data.print_verdict()
    return data.as_dict()


def beginning(inventory: str, fault: Fault) -> str:
    """The inventory with which the fleet is built: for a row that changes it, the one from before."""
    if fault in GROWTH:
        return single(inventory)
    return before(inventory) if fault in MOVE else inventory


if __name__ == "__main__":
    main()
