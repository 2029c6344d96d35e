"""One arm: stop the workers, let a queue grow, wake them all, and record what happens."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from lab.deadlines import poll, until
from lab.demo.backends import BACKENDS, Sampled
from lab.demo.fleet import Fleet, Host
from lab.drill import proof
from lab.drill.hosts import database
from lab.drill.ledger import Job, Ledger
from lab.drill.load import send
from lab.drill.proof import Book
from lab.herd import evidence, workers
from lab.herd.arms import Arm
from lab.herd.figures import Run

# A job's work outside the database, during which it keeps its connection.
WORK_S = 0.05
# Jobs before each arm: otherwise only the first arm pays for cold caches.
WARM = 500
# A client waits for its 202 most of the time.
CLIENTS = 16
# The end of a slow herd.
DRAIN_S = 900.0

# A client that is logging in has a connection slot and a process, but no row in pg_stat_activity.
SERVER_PROCESSES = """(
    SELECT cardinality(string_to_array(trim(pg_read_file('/proc/' || pid || '/task/' || pid || '/children')), ' '))
    FROM split_part(pg_read_file('postmaster.pid'), E'\\n', 1) AS pid
)"""
SAMPLE = "SELECT extract(epoch FROM clock_timestamp()), {backends}, {processes}, (SELECT count(*) FROM done)"


def build(producers: list[Host], count: int, ledger: Ledger, numbers: Iterator[int]) -> None:
    """Post this many jobs, each until it gets a 202."""
    turns = itertools.cycle([producers[turn:] + producers[:turn] for turn in range(len(producers))])
    jobs = (Job(number, WORK_S) for number in itertools.islice(numbers, count))
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda job, turn: send(job, turn, ledger), jobs, turns))


def measure(arm: Arm, fleet: Fleet, book: Book, count: int, numbers: Iterator[int]) -> tuple[Run, dict[str, float]]:
    """The arm must be applied. Returns the run, and how long its preparation and the whole took."""
    producers = fleet.group("producers")
    began_s = time.monotonic()
    warm(fleet, numbers)
    workers.stop(fleet)
    book.begin()
    workers.close_pools(fleet)
    log_length = evidence.forget(fleet)
    query = " ".join(SAMPLE.format(backends=BACKENDS.format(book.application), processes=SERVER_PROCESSES).split())
    with Sampled(database(fleet), book.application, query) as samples:
        until("the pools to be empty", lambda: samples.rows and samples.rows[-1][1] == 0, 60)
        idle = samples.rows[-1][2]
        building_s, ledger = time.monotonic(), Ledger()
        build(producers, count, ledger, numbers)
        building_s = time.monotonic() - building_s
        accepted = len(ledger.accepted)
        print(f"  {accepted:,} jobs wait, accepted in {building_s:.0f} s", flush=True)
        with workers.woken(fleet, arm.stagger_s) as began:
            drained = poll(lambda: samples.rows[-1][3] >= accepted, DRAIN_S)
            herd = workers.processes(fleet)
            if drained:
                # A task writes its times after its commit and before it acknowledges its message.
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
        refusals=evidence.refusals(fleet, log_length),
        backends=[(at, backends) for at, backends, _, _ in samples.rows],
        server_processes=[(at, processes - idle) for at, _, processes, _ in samples.rows],
    )
    return run, {"backlog_s": round(building_s, 1), "took_s": round(time.monotonic() - began_s, 1)}


def warm(fleet: Fleet, numbers: Iterator[int]) -> None:
    """Empties every queue, also of the jobs of an aborted run."""
    workers.start(fleet)
    build(fleet.group("producers"), WARM, Ledger(), numbers)
    until("every queue to be empty", lambda: not workers.waiting(fleet), DRAIN_S)
