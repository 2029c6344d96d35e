"""What a run left behind: a line of each job in its host's file, and PostgreSQL's own log."""

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
    """A job that got through: what it waited to be connected, to say that it arrived, and to enter its effect."""

    at: float
    connect_ms: float
    arrive_ms: float
    enter_ms: float

    @property
    def database_ms(self) -> float:
        return self.connect_ms + self.arrive_ms + self.enter_ms


@dataclass(frozen=True)
class Failed:
    """A run that its database turned away; the job comes again."""

    at: float
    why: str


def forget(fleet: Fleet) -> int:
    """Empty the workers' files; answers how long PostgreSQL's log is already."""
    on_all(fleet.group("celery_workers"), f"[ ! -e {WATCH} ] || truncate -s 0 {WATCH}")
    return int(shell(database(fleet), f"cat {LOG} | wc -c"))


def jobs(fleet: Fleet) -> tuple[list[Finished], list[Failed]]:
    told = on_all(fleet.group("celery_workers"), f"cat {WATCH}")
    return parse(line for said in told for line in said.splitlines())


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
    """The same trouble by the same words: libpq names hosts, ports and attempts on the way."""
    if re.search(REFUSED, error):
        return NO_PLACE
    if "timeout expired" in error:
        return "no connection within the client's 5 s"
    return error.rpartition("FATAL: ")[2].strip()[:80]


def reasons(failed: Iterable[Failed]) -> dict[str, int]:
    return dict(Counter(each.why for each in failed).most_common())


def refusals(fleet: Fleet, log_was: int) -> list[float]:
    """When PostgreSQL wrote that it had no place for somebody."""
    said = shell(database(fleet), f"cat {LOG} | tail -c +{log_was + 1} | grep -E '{REFUSED}' | cut -c 1-27 || true")
    return [moment(line) for line in said.splitlines()]


def moment(stamp: str) -> float:
    """Debian's log_line_prefix begins with %m. The lab's hosts keep UTC."""
    date, clock, zone = stamp.split(" ")
    if zone != "UTC":
        raise ValueError(f"PostgreSQL's log tells the time of {zone}; the herd reads UTC")
    return datetime.fromisoformat(f"{date} {clock}").replace(tzinfo=UTC).timestamp()
