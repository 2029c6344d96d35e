"""Compare settings of the kit: the same herd and a shorter queue, in turns, so all settings meet the same conditions."""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path

from lab.demo import fleet as fleets
from lab.drill.proof import Book
from lab.herd.arms import BOUNCER, DIRECT, Arm
from lab.herd.figures import figures
from lab.herd.measure import measure
from lab.herd.report import table

JOBS = 4_000
WORST = {"peak_backends", "peak_server_processes", "failed_connections", "refused_by_postgresql", "lost", "double_effects"}


def pool(size: int) -> Arm:
    # Without the reserve, which would blur the effect of the size.
    settings = {"pgbouncer_default_pool_size": size, "pgbouncer_reserve_pool_size": 0}
    return Arm(f"pool {size}", settings=settings, applied_by="playbooks/pgbouncer.yml")


def prefetch(jobs: int) -> Arm:
    name = "worker_prefetch_multiplier"
    settings = {"application_celery_settings": {name: jobs}, "application_waivers": {name: "the herd measures it"}}
    return Arm(f"prefetch {jobs}", settings=settings if jobs != 1 else {})


SWEEPS: dict[str, tuple[Arm, ...]] = {
    "pool": tuple(pool(size) for size in (5, 10, 20, 40)),
    "prefetch": (prefetch(1), prefetch(4)),
    # A staggered start: none, and a pause that is long compared with a login and short compared with the drain.
    "stagger": tuple(Arm(f"hosts {pause:g} s apart", stagger_s=pause, applied_by="") for pause in (0.0, 5.0)),
    "connection": (
        BOUNCER,
        DIRECT,
        Arm("with PgBouncer, kept by the process", connection="process"),
        Arm("straight to PostgreSQL, kept by the process", direct=True, connection="process"),
    ),
}


def sweep(arguments: argparse.Namespace, build: Path) -> bool:
    """Adds to build/herd-sweep.json. Fails only if jobs are lost or take effect twice."""
    fleet = fleets.read(arguments.inventory)
    book, numbers = Book(fleet), itertools.count(1)
    if not arguments.no_converge:
        BOUNCER.apply(arguments.inventory, "site.yml")
    file = build / "herd-sweep.json"
    sweeps = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    lost = 0
    for name in arguments.sweep:
        runs: dict[str, list[dict]] = {arm.name: [] for arm in SWEEPS[name]}
        for turn in range(arguments.rounds):
            for arm in SWEEPS[name]:
                print(f"▸ {arm.name}, {turn + 1} of {arguments.rounds}", flush=True)
                if arm.applied_by:
                    arm.apply(arguments.inventory)
                run, _ = measure(arm, fleet, book, arguments.jobs, numbers)
                runs[arm.name].append(figures(run))
                print(table(runs[arm.name][-1:]), flush=True)
                lost += run.count["lost"] + run.count["double_effects"]
        medians = [median(arm_runs) for arm_runs in runs.values()]
        print(f"\n{name}, medians of {arguments.rounds}:\n{table(medians)}\n", flush=True)
        sweeps[name] = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "jobs": arguments.jobs, "medians": medians, "runs": runs}
        file.write_text(json.dumps(sweeps, indent=2) + "\n", encoding="utf-8")
        if any(arm.settings or arm.direct or arm.connection != "job" for arm in SWEEPS[name]):
            # Leave the fleet as the inventory says.
            for playbook in sorted({arm.applied_by for arm in SWEEPS[name] if arm.applied_by}):
                BOUNCER.apply(arguments.inventory, playbook)
    return not lost


def median(runs: list[dict]) -> dict:
    """The median of each figure; of failures the maximum, which a median would hide."""
    merged: dict = {}
    for name, value in runs[0].items():
        values = [run[name] for run in runs]
        if isinstance(value, dict) and name != "failures":
            merged[name] = {key: round(statistics.median(entry[key] for entry in values), 1) for key in value}
        elif name in WORST:
            merged[name] = max(values)
        elif isinstance(value, int | float):
            merged[name] = round(statistics.median(values), 1)
        else:
            merged[name] = value
    return merged
