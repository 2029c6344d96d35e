"""Clients that post numbered jobs at a bounded rate, and send the same job again when no 202 comes."""

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
from lab.drill.ledger import Job, Ledger

CLIENTS = 8
# A client's patience with one answer. The kit promises its 503 within 5 s.
ANSWER_S = 8.0
# How long a client sends the same job again before it lets go of it.
PERSISTENCE_S = 20.0
AGAIN_S = 0.25

# Most jobs are short; one in twenty is long enough to be caught in the act, whichever process dies.
DURATIONS_S = (0.02, 0.1, 0.5, 2.0)
WEIGHTS = (60, 25, 10, 5)


def jobs(numbers: Iterator[int], chance: random.Random) -> Iterator[Job]:
    for number in numbers:
        yield Job(number, chance.choices(DURATIONS_S, WEIGHTS)[0])


class Clients:
    """Post for as long as the block lasts. Numbers go on from row to row."""

    def __init__(self, producers: list[Host], rate: float, ledger: Ledger, numbers: Iterator[int], seed: int) -> None:
        self.ledger = ledger
        self._producers = producers
        self._turn = itertools.cycle(range(len(producers)))
        self._jobs = jobs(numbers, random.Random(seed))
        self._due = due(rate, time.monotonic)
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
            # Nobody waits for a thread's exception: the row would go on with fewer clients, or with none.
            self.ledger.die(f"{type(error).__name__}: {error}")

    def _post(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                job, wait_s, turn = next(self._jobs), next(self._due), next(self._turn)
            if self._stop.wait(wait_s):
                return
            send(job, self._producers[turn:] + self._producers[:turn], self.ledger)


def due(rate: float, clock: Callable[[], float]) -> Iterator[float]:
    """Seconds until the next job is due. Time that was lost while every client waited is not made up in a burst."""
    at = clock()
    while True:
        now = clock()
        at = max(at + 1 / rate, now)
        yield at - now


def send(job: Job, producers: list[Host], ledger: Ledger) -> None:
    """Until somebody takes it: a refusal, a broken connection or silence sends the same key to the next producer."""
    end = time.monotonic() + PERSISTENCE_S
    for posts, producer in enumerate(itertools.cycle(producers), start=1):
        began = time.monotonic()
        status = post(producer, job)
        ledger.answered(time.monotonic() - began)
        if status == 202:
            ledger.accept(job, time.time(), producer.name, posts)
            return
        ledger.refuse(time.time())
        if time.monotonic() > end:
            ledger.give_up(job)
            return
        time.sleep(AGAIN_S)  # a client's pause between two attempts; PERSISTENCE_S ends them


def post(producer: Host, job: Job) -> int:
    """The status, or 0 where no answer came."""
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
