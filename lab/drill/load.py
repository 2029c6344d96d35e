"""Clients that post numbered jobs at a bounded rate, and repeat a job until they get a 202."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from lab.demo import trust
from lab.demo.fleet import Host
from lab.drill.ledger import Accepted, Job, Ledger

CLIENTS = 8
# How long a client waits for one answer. The kit promises its 503 within 5 s.
ANSWER_S = 8.0
# How long a client repeats a job before it gives up.
PERSISTENCE_S = 20.0
AGAIN_S = 0.25

# Most jobs are short; one in twenty is long enough to be running when a process dies.
DURATIONS_S = (0.02, 0.1, 0.5, 2.0)
WEIGHTS = (60, 25, 10, 5)


def jobs(numbers: Iterator[int], chance: random.Random) -> Iterator[Job]:
    for number in numbers:
        yield Job(number, chance.choices(DURATIONS_S, WEIGHTS)[0])


class Clients:
    """Post while the block runs. Numbers continue from row to row."""

    def __init__(self, producers: list[Host], rate: float, ledger: Ledger, numbers: Iterator[int], seed: int) -> None:
        self.ledger = ledger
        self._producers = producers
        self._turn = itertools.cycle(range(len(producers)))
        self._jobs = jobs(numbers, random.Random(seed))
        self._waits = waits(rate, time.monotonic)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        try:
            self._post()
        except Exception as error:
            # Nobody sees a thread's exception: the row would go on with fewer clients, or none.
            self.ledger.deaths.append(f"{type(error).__name__}: {error}")

    def _post(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                job, wait_s, turn = next(self._jobs), next(self._waits), next(self._turn)
            if self._stop.wait(wait_s):
                return
            send(job, self._producers[turn:] + self._producers[:turn], self.ledger)


def waits(rate: float, clock: Callable[[], float]) -> Iterator[float]:
    """Seconds until the next job is due. After a time in which every client waited, there is no burst to catch up."""
    at = clock()
    while True:
        now = clock()
        at = max(at + 1 / rate, now)
        yield at - now


def send(job: Job, producers: list[Host], ledger: Ledger) -> None:
    """Until a producer accepts it: after a refusal, a broken connection or a timeout, the same key goes to the next producer."""
    end = time.monotonic() + PERSISTENCE_S
    for posts, producer in enumerate(itertools.cycle(producers), start=1):
        began = time.monotonic()
        status = post(producer, job)
        ledger.answers.append((time.monotonic() - began, status))
        if status == 202:
            ledger.accepted.append(Accepted(job, time.time(), producer.name, posts))
            return
        ledger.refusals.append(time.time())
        if time.monotonic() > end:
            ledger.given_up.append(job)
            return
        time.sleep(AGAIN_S)  # a client's pause between two requests; PERSISTENCE_S ends them


def post(producer: Host, job: Job) -> int:
    """The status, or 0 without an answer."""
    body = json.dumps({"key": job.key, "number": job.number, "seconds": job.seconds, "poison": job.poison})
    host, _, port = producer.bind.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=ANSWER_S, context=trust.context())
    try:
        connection.request("POST", "/jobs", body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
