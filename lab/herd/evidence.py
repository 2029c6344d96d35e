"""The traces of a run: a line per job in a file on its host, and PostgreSQL's log."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from lab.demo.fleet import Fleet
from lab.drill.hosts import database, shell
from lab.herd.workers import on_all

WATCH = "/var/lib/ledger/watch"
LOG = "/var/log/postgresql/postgresql-*-main.log"
REFUSED = "too many clients|remaining connection slots"
NO_PLACE = "no free connection slot in PostgreSQL"


@dataclass(frozen=True)
class Finished:
    """A job that succeeded: how long it waited to connect, to record its delivery, and to enter its effect."""

    at: float
    connect_ms: float
    arrive_ms: float
    enter_ms: float

    @property
    def database_ms(self) -> float:
        return self.connect_ms + self.arrive_ms + self.enter_ms


@dataclass(frozen=True)
class Failed:
    """A run that the database refused; the job is retried."""

    at: float
    why: str


def forget(fleet: Fleet) -> int:
    """Empty the workers' files; returns the length of PostgreSQL's log."""
    on_all(fleet.group("celery_workers"), f"[ ! -e {WATCH} ] || truncate -s 0 {WATCH}")
    return int(shell(database(fleet), f"cat {LOG} | wc -c"))


def jobs(fleet: Fleet) -> tuple[list[Finished], list[Failed]]:
    files = on_all(fleet.group("celery_workers"), f"cat {WATCH}")
    return parse(line for text in files for line in text.splitlines())


def parse(lines: Iterable[str]) -> tuple[list[Finished], list[Failed]]:
    finished, failed = [], []
    for line in lines:
        at, what, *rest = line.split("\t")
        if what == "done":
            finished.append(Finished(float(at), *(float(ms) for ms in rest)))
        else:
            failed.append(Failed(float(at), reason(" ".join(rest))))
    return finished, failed


def reason(error: str) -> str:
    """The same words for the same trouble: libpq also names hosts, ports and attempts."""
    if re.search(REFUSED, error):
        return NO_PLACE
    if "timeout expired" in error:
        return "no connection within the client's 5 s"
    return error.rpartition("FATAL: ")[2].strip()[:80]


def reasons(failed: Iterable[Failed]) -> dict[str, int]:
    return dict(Counter(run.why for run in failed).most_common())


def refusals(fleet: Fleet, log_length: int) -> list[float]:
    """When PostgreSQL logged that it had no free connection."""
    stamps = shell(database(fleet), f"cat {LOG} | tail -c +{log_length + 1} | grep -E '{REFUSED}' | cut -c 1-27 || true")
    return [moment(line) for line in stamps.splitlines()]


def moment(stamp: str) -> float:
    """Debian's log_line_prefix begins with %m. The lab's hosts use UTC."""
    date, clock, zone = stamp.split(" ")
    if zone != "UTC":
        raise ValueError(f"PostgreSQL's log has the time zone {zone}; the herd reads UTC")
    return datetime.fromisoformat(f"{date} {clock}").replace(tzinfo=UTC).timestamp()
