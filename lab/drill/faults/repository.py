"""A repository that is full, or cut off during a backup: jobs go on, WAL waits and follows, the next backup succeeds."""

from __future__ import annotations

import json
import time

from lab.deadlines import until
from lab.drill import hosts
from lab.drill.faults.backups import ballast, repository
from lab.drill.faults.disks import SmallDisk
from lab.drill.faults.fault import Fault, Reading, attempt, on
from lab.drill.faults.network import cut_off, dropped, reconnect
from lab.drill.hosts import shell
from lab.drill.scene import Scene
from lab.machine import BUILD, Refusal

DISK = SmallDisk(repository, "/var/lib/pgbackrest", 32, ("pgbackrest",))
BACKUP = "grunnfjell-backup@full"
# pgBackRest tries an upload for a minute before PostgreSQL hears that it failed.
NOTICED_S = 240
# Keep-alive ends a connection to a silent host after 90 s; then pgBackRest ends its other processes.
ENDED_S = 280
CAUGHT_UP_S = 180


def sql(scene: Scene, statement: str) -> str:
    return shell(hosts.database(scene.fleet), f"cd / && runuser -u postgres -- psql -XAtqc {statement!r}").strip()


def archiver(what: str) -> Reading:
    statement = f"SELECT {what} FROM pg_stat_archiver"
    return Reading(what, hosts.database, f'cd / && runuser -u postgres -- psql -XAtqc "{statement}"')


def attention(scene: Scene, *words: str) -> str:
    """The line of `make status` with these words."""

    def look() -> str:
        attempt(scene, "playbooks/status.yml")
        lines = json.loads((BUILD / "status.json").read_text(encoding="utf-8"))["attention"]
        return next((line for line in lines if all(word in line for word in words)), "")

    return until(f"a line of `make status` with {' and '.join(words)}", look, NOTICED_S, every_s=2)


def caught_up(scene: Scene) -> None:
    sql(scene, "SELECT pg_switch_wal()")
    healthy = "SELECT last_archived_time > coalesce(last_failed_time, last_archived_time - interval '1 s') FROM pg_stat_archiver"
    until("WAL in the repository again", lambda: sql(scene, healthy) == "t", CAUGHT_UP_S)


def fill(scene: Scene) -> float:
    began = on(repository, DISK.fill)(scene)
    print(f"    {attention(scene, 'no WAL reached')}\n    {attention(scene, 'disk is', 'full')}", flush=True)
    return began


def make_room(scene: Scene) -> float:
    on(repository, DISK.free)(scene)
    caught_up(scene)
    return time.time()


def cut_a_backup(scene: Scene) -> float:
    """Between the first file and the last; returns once the backup has failed."""
    place = repository(scene.fleet)
    shell(place, f"systemctl start --no-block {BACKUP}")
    copying = "for d in /var/lib/pgbackrest/backup/main/2*; do [ -e $d/backup.manifest ] || du -sm $d | cut -f1; done"
    until("files of the backup", lambda: any(int(size) > 0 for size in shell(place, copying).split()), 60, every_s=0.1)
    began = cut_off(repository, lambda fleet: fleet.group("postgresql"))(scene)
    until("the end of the backup", lambda: "failed" in shell(place, f"systemctl is-failed {BACKUP} || true"), ENDED_S)
    print(f"    {reason.look(scene)}\n    {attention(scene, 'no WAL reached')}", flush=True)
    return began


def back_up(scene: Scene) -> float:
    """The next backup goes on with what the last one has copied."""
    reconnect(repository)(scene)
    caught_up(scene)
    shell(repository(scene.fleet), f"systemctl start {BACKUP}")
    if "not" in shell(repository(scene.fleet), "runuser -u postgres -- pgbackrest --stanza=main verify || echo not whole"):
        raise Refusal("the repository is not whole after a backup that was cut")
    return time.time()


reason = Reading("why the backup ended", repository, f"journalctl -u {BACKUP} -o cat | grep -o 'ERROR.*' | tail -n 1")

# They need a group `backups`: inventories/drill-lost.
REPOSITORY = (
    Fault(
        "repository full", "host", fill, make_room, ends_within_s=NOTICED_S + CAUGHT_UP_S, seamless=True, stage=DISK.mounted,
        readings=(DISK.room, archiver("failed_count")),
    ),
    Fault(
        "repository cut off during a backup", "host", cut_a_backup, back_up, ends_within_s=ENDED_S + NOTICED_S + CAUGHT_UP_S,
        seamless=True, stage=ballast, readings=(dropped(repository), reason),
    ),
)  # fmt: skip
