"""One arm: put the workers to sleep, let a queue grow, wake them all, and take down what happens."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from lab.demo.backends import BACKENDS, Sampled
from lab.demo.fleet import Fleet, Host
from lab.drill import proof
from lab.drill.hosts import database
from lab.drill.ledger import Job, Ledger
from lab.drill.load import send
from lab.drill.proof import Book
from lab.drill.scene import LOOK_S, until
from lab.herd import evidence, workers
from lab.herd.arms import Arm
from lab.herd.figures import Run

# What a job does beside its database, in which it keeps its connection all the same.
WORK_S = 0.05
# Jobs before each arm, so that the first one does not pay alone for what is read and built only once.
WARM = 500
# A client waits for its 202 most of the time.
CLIENTS = 16
# However slow the herd is, it has an end.
DRAIN_S = 900.0

# A client that is not logged in yet has its place and its process, and no row in pg_stat_activity.
SERVER_PROCESSES = """(
    SELECT cardinality(string_to_array(trim(pg_read_file('/proc/' || pid || '/task/' || pid || '/children')), ' '))
    FROM split_part(pg_read_file('postmaster.pid'), E'\\n', 1) AS pid
)"""
SEEN = "SELECT extract(epoch FROM clock_timestamp()), {backends}, {processes}, (SELECT count(*) FROM done)"


def build(producers: list[Host], count: int, ledger: Ledger, numbers: Iterator[int]) -> None:
    """Post so many jobs, each until it got its 202."""
    turns = itertools.cycle([producers[turn:] + producers[:turn] for turn in range(len(producers))])
    jobs = (Job(number, WORK_S) for number in itertools.islice(numbers, count))
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda job, turn: send(job, turn, ledger), jobs, turns))


def measure(arm: Arm, fleet: Fleet, book: Book, count: int, numbers: Iterator[int]) -> tuple[Run, dict[str, float]]:
    """The fleet stands as the arm says. Answers the run, and what is worth knowing of its making."""
    producers = fleet.group("producers")
    began_s = time.monotonic()
    warm(fleet, book, numbers)
    workers.stop(fleet)
    book.begin()
    workers.close_pools(fleet)
    log_was = evidence.forget(fleet)
    query = " ".join(SEEN.format(backends=BACKENDS.format(book.application), processes=SERVER_PROCESSES).split())
    with Sampled(database(fleet), book.application, query) as seen:
        until("the pools to be empty", lambda: seen.rows and seen.rows[-1][1] == 0, 60)
        own = seen.rows[-1][2]
        building_s, ledger = time.monotonic(), Ledger()
        build(producers, count, ledger, numbers)
        building_s = time.monotonic() - building_s
        accepted = len(ledger.accepted)
        print(f"  {accepted:,} jobs wait, accepted in {building_s:.0f} s", flush=True)
        with workers.woken(fleet, arm.stagger_s) as began:
            end = time.monotonic() + DRAIN_S
            while seen.rows[-1][3] < accepted and time.monotonic() < end:
                time.sleep(LOOK_S)  # between two looks; DRAIN_S ends them
            herd = workers.processes(fleet)
            if seen.rows[-1][3] >= accepted:
                # A task tells its times after the commit that was seen, and before its message is acknowledged.
                until("the last acknowledgements", lambda: not workers.waiting(fleet), DRAIN_S)
    finished, failed = evidence.jobs(fleet)
    done = [float(line) for line in book.sql("SELECT extract(epoch FROM finished_at) FROM done;").split()]
    run = Run(
        name=arm.name,
        processes=herd,
        began=began,
        count=proof.count(ledger.accepted, book.traces()),
        done=done,
        finished=finished,
        failed=failed,
        refusals=evidence.refusals(fleet, log_was),
        backends=[(at, backends) for at, backends, _, _ in seen.rows],
        server_processes=[(at, every - own) for at, _, every, _ in seen.rows],
    )
    return run, {"backlog_s": round(building_s, 1), "took_s": round(time.monotonic() - began_s, 1)}


def warm(fleet: Fleet, book: Book, numbers: Iterator[int]) -> None:
    """Leaves every queue empty, also of what a run that was broken off had left there."""
    workers.start(fleet)
    build(fleet.group("producers"), WARM, Ledger(), numbers)
    until("every queue to be empty", lambda: not workers.waiting(fleet), DRAIN_S)
