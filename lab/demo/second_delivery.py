"""Deliver the message of a finished job a second time, and report what changes."""

from __future__ import annotations

from typing import NamedTuple

from lab.deadlines import until
from lab.demo.fleet import Fleet
from lab.demo.jobs import Job
from lab.machine import REPOSITORY

DEADLINE_S = 90.0
PUBLISH = (REPOSITORY / "lab/guest/publish_again.py").read_text(encoding="utf-8")


class Traces(NamedTuple):
    """All traces of a job: its row, and its files with their inodes, times and sizes."""

    row: str
    files: str


def traces(fleet: Fleet, job: Job) -> Traces:
    database = fleet.group("postgresql")[0]
    query = f"SELECT to_jsonb(videos) FROM public.videos WHERE key = '{job.key}'"
    # The search path protects the superuser from functions that the application may have created in its database.
    psql = ["env", "PGOPTIONS=-csearch_path=pg_catalog,pg_temp", "runuser", "-u", "postgres", "--", "psql", "-XAt"]
    psql += [f"--dbname={job.producer.application}", f"--command={query}"]
    files = ["find", f"{job.producer.data}/videos/{job.key}", "-type", "f", "-printf", "%f %i %T@ %s\\n"]
    return Traces(database.run(psql).strip(), "\n".join(sorted(job.producer.run(files).splitlines())))


def deliver_again(fleet: Fleet, job: Job) -> list[str]:
    """Sentences about what the second delivery changed."""
    before = traces(fleet, job)
    run = f"/opt/{job.producer.application}/current/run"
    job.producer.run(["runuser", "-u", "www-data", "--", run, "python", "-", job.key], stdin=PUBLISH)
    until(f"a worker to take the second delivery of {job.key}", lambda: was_taken(fleet, job.key), DEADLINE_S)
    after = traces(fleet, job)
    return [
        f"a second delivery changed the {trace}:\n{was}\n{now}"
        for trace, was, now in zip(Traces._fields, before, after, strict=True)
        if was != now
    ]


def was_taken(fleet: Fleet, key: str) -> bool:
    """The worker that takes the second delivery logs it."""
    return any(
        worker.run(["sh", "-c", f"cat {worker.logs}/*.log | grep -c '{key} has ended before' || true"]).strip() != "0"
        for worker in fleet.group("celery_workers")
    )
