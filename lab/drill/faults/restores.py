"""The database goes back to an earlier moment: jobs that ended since then are missing, and the broker has forgotten them."""

from __future__ import annotations

import time

from lab.deadlines import until
from lab.drill import hosts
from lab.drill.faults.fault import Fault, Reading, amid_work, playbook
from lab.drill.hosts import shell
from lab.drill.scene import Scene

DUMP = "/var/tmp/grunnfjell-drill.dump"
AS_POSTGRES = "cd /var/tmp && runuser -u postgres --"
# Jobs that end between the dump and the restore, and so are missing afterwards.
MISSING = 100


def restore(scene: Scene) -> float:
    """Returns when the database had lost what was done since its dump."""
    database, name = hosts.database(scene.fleet), scene.book.application
    shell(database, f"{AS_POSTGRES} pg_dump --format=custom --file={DUMP} {name}")
    dumped = time.time()
    until("jobs to be done after the dump", lambda: len(scene.book.done_since(dumped) or []) >= MISSING, 90)
    shell(database, f"{AS_POSTGRES} pg_restore --clean --single-transaction --dbname={name} {DUMP}\nrm {DUMP}")
    return time.time()


def reconcile(scene: Scene) -> float:
    playbook(scene, "playbooks/reconcile.yml", "-e", "reconcile_republish=true")
    return time.time()


# pg_restore drops the tables and creates them again.
TABLE = """runuser -u postgres -- psql -XAt -d ledger -c "SELECT 'done'::regclass::oid" """

RESTORES = (
    Fault(
        "database restored to an earlier moment", "process", amid_work(restore), reconcile, ends_within_s=300,
        readings=(Reading("table done", hosts.database, f"cd / && {TABLE}"),),
    ),
)  # fmt: skip
