"""Delivers the message of a finished job a second time, and looks whether anything changes."""

from __future__ import annotations

import time
from typing import NamedTuple

from lab.demo.fleet import Fleet
from lab.demo.jobs import Job
from lab.machine import Refusal

DEADLINE_S = 90.0

# Runs in the application's own environment on the producer's host; the key arrives as its argument.
PUBLISH = """
import os, sys
from newsroom.publish import publish
key = sys.argv[1]
publish(key, f"{os.environ['NEWSROOM_INTERNAL_URL']}/internal/videos/{key}/upload")
"""


class Traces(NamedTuple):
    """All that a job leaves: its row, and its files with their inodes, times and sizes."""

    row: str
    files: str


def traces(fleet: Fleet, job: Job) -> Traces:
    database = fleet.group("postgresql")[0]
    query = f"SELECT to_jsonb(videos) FROM public.videos WHERE key = '{job.key}'"
    # What the application may have put into its own database is not looked up by name.
    psql = ["env", "PGOPTIONS=-csearch_path=pg_catalog,pg_temp", "runuser", "-u", "postgres", "--", "psql", "-XAt"]
    psql += [f"--dbname={job.producer.application}", f"--command={query}"]
    files = ["find", f"{job.producer.data}/videos/{job.key}", "-type", "f", "-printf", "%f %i %T@ %s\\n"]
    return Traces(database.run(psql).strip(), "\n".join(sorted(job.producer.run(files).splitlines())))


def deliver_again(fleet: Fleet, job: Job) -> list[str]:
    """Sentences about what the second delivery changed; none when it changed nothing."""
    before = traces(fleet, job)
    run = f"/opt/{job.producer.application}/current/run"
    job.producer.run(["runuser", "-u", "www-data", "--", run, "python", "-", job.key], stdin=PUBLISH)
    wait_until_taken(fleet, job.key)
    after = traces(fleet, job)
    return [
        f"a second delivery changed the {what}:\n{was}\n{now}"
        for what, was, now in zip(Traces._fields, before, after, strict=True)
        if was != now
    ]


def wait_until_taken(fleet: Fleet, key: str) -> None:
    """The worker that takes the second delivery says so in its log."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for worker in fleet.group("celery_workers"):
            if worker.run(["sh", "-c", f"cat {worker.logs}/*.log | grep -c '{key} has ended before' || true"]).strip() != "0":
                return
        time.sleep(0.5)  # between two looks; the deadline ends them
    raise Refusal(f"no worker took the second delivery of {key} within {DEADLINE_S:.0f} s.")
