"""What backups and restore drills cost at work: the jobs done per second with and without them, side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

from lab.demo.fleet import Fleet, Host
from lab.drill import hosts
from lab.drill.faults.fault import Fault, Place, Reading, now
from lab.drill.hosts import shell
from lab.drill.scene import Scene

ROUNDS = 3
# Between two turns of the service: so long is counted without it, and the workers catch up.
QUIET_S = 25.0
# More rows than the application has: reading and copying the database must take longer than starting to.
BALLAST_MIB = 400
CREATE = f"""CREATE TABLE drill_ballast AS SELECT number, string_agg(md5(number::text || part::text), '') AS filler
    FROM generate_series(1, {BALLAST_MIB * 8}) AS number, generate_series(1, 4096) AS part GROUP BY number;
    CHECKPOINT;"""
DROP = "DROP TABLE IF EXISTS drill_ballast;"


def repository(fleet: Fleet) -> Host:
    return fleet.group("backups")[0]


@contextmanager
def ballast(scene: Scene) -> Iterator[None]:
    def sql(text: str) -> None:
        shell(hosts.database(scene.fleet), f"cd / && runuser -u postgres -- psql -Xqd {scene.book.application} <<'E'\n{text}\nE")

    sql(CREATE)
    try:
        yield
    finally:
        sql(DROP)


@dataclass
class Pace:
    """Runs a service of the repository host in turns with nothing, and counts the jobs done meanwhile."""

    unit: str
    turns: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, scene: Scene) -> float:
        began = time.time()
        windows: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
        for _ in range(ROUNDS):
            quiet = time.time()
            time.sleep(QUIET_S)  # no wait for a condition: the jobs done in this time are counted
            windows["without"].append((quiet, time.time()))
            busy = time.time()
            shell(repository(scene.fleet), f"systemctl start {self.unit}")
            windows["with"].append((busy, time.time()))
        moments = [run.at for run in scene.book.done_since(began) or []]
        self.turns = {
            name: [sum(begin < moment <= end for moment in moments) / (end - begin) for begin, end in spans]
            for name, spans in windows.items()
        }
        return began

    def text(self) -> str:
        return "; ".join(
            f"{median(figures):.1f}/s {name} ({', '.join(f'{figure:.1f}' for figure in figures)})"
            for name, figures in self.turns.items()
        )


@dataclass(frozen=True)
class PaceReading(Reading):
    pace: Pace

    def look(self, scene: Scene) -> str:
        return self.pace.text() or "not measured"


def row(name: str, unit: str, records: str) -> Fault:
    """`records`: what each run of the unit leaves, in the order of their names."""
    pace = Pace(unit)
    place: Place = repository
    # Not `accepts`: the load is more than the workers can do, so a job that is accepted later waits behind others.
    newest = Reading("newest", place, f"ls -d {records} 2>/dev/null | tail -n 1 | xargs -r basename")
    return Fault(
        name, "process", pace.measure, now, ends_within_s=900, seamless=True, stage=ballast,
        readings=(newest, PaceReading("jobs done", place, "", pace)),
    )  # fmt: skip


# They need a group `backups`: inventories/drill-lost.
BACKUPS = (
    row("full backups taken", "grunnfjell-backup@full", "/var/lib/pgbackrest/backup/main/*-*F"),
    row("restores proved", "grunnfjell-restore-drill", "/var/lib/grunnfjell/pgbackrest/drills/*.json"),
)
