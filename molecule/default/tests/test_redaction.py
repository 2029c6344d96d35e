"""The arguments of a job are never in a log, whether it is done, retried or dead, on any host of the fleet."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from deadline import until
from foreign_application import ForeignApplication
from jobs import RESUME_S

from lab.demo.fleet import Fleet

pytestmark = pytest.mark.disruptive

# All ways of a job's arguments into a log: Celery's lines, the code's lines, its output, exceptions with their causes, a retry,
# and statements that the database refuses.
APP = """
import logging
import psycopg
from celery import Celery
from celery.utils.log import get_task_logger
log = get_task_logger(__name__)
app = Celery("canary")
app.config_from_envvar("CELERY_CONFIG_MODULE")
app.conf.task_default_queue = app.conf.task_default_exchange = app.conf.task_default_routing_key = "canary"
app.conf.worker_send_task_events = True
@app.task(name="canary.done")
def done(who, more=None):
    log.info("working for %s", who)
    logging.getLogger("code").warning(f"working for {more}")
    print("printed", who)
    return who
@app.task(name="canary.fails")
def fails(who, more=None):
    try:
        {"x": 1}[who]
    except KeyError as error:
        raise ValueError(f"no customer {who}") from error
@app.task(bind=True, name="canary.retries", max_retries=1)
def retries(self, who, more=None):
    raise self.retry(exc=ValueError(f"{who} is away"), countdown=1)
@app.task(name="canary.database")
def database(who, more=None):
    for statement, values in (
        ("SELECT %s::uuid", (who,)),
        (f"SELECT '{who}'::int", None),
        (f"SELECT nothing /* {who} */", None),
        ("CREATE TEMPORARY TABLE people (name text, age int NOT NULL); INSERT INTO people VALUES ('" + who + "', NULL)", None),
    ):
        with psycopg.connect() as connection:
            try:
                connection.execute(statement, values)
            except psycopg.Error as error:
                log.warning("the database refused: %s", error)
    raise RuntimeError("all were refused")
"""
SEND = """
import sys, canary
who = sys.stdin.read().strip()
for name in ("done", "fails", "retries", "database"):
    canary.app.send_task("canary." + name, args=(who,), kwargs={"more": {"people": [{"name": who}]}}, task_id=f"canary-{name}")
canary.app.send_task("canary.nobody", args=(who,), argsrepr=who, kwargsrepr=who)
"""
# The last line of each job.
ENDS = (
    "canary.done[canary-done] succeeded",
    "canary.fails[canary-fails] raised",
    "canary.retries[canary-retries] raised",
    "canary.database[canary-database] raised",
    "Received unregistered task",
)


@pytest.fixture(scope="module")
def canary() -> str:
    return f"kari.nordmann.{uuid.uuid4().hex}@example.org"


@pytest.fixture(scope="module")
def log(site: Fleet, canary: str) -> Iterator[str]:
    """The worker's log, once every job has ended."""
    worker, (broker,) = site.group("celery_workers")[0], site.group("rabbitmq")
    application = ForeignApplication(worker, "canary", APP, "--task-events --loglevel=DEBUG")

    def complete_log() -> str:
        text = worker.run(["sh", "-c", f"cat {application.folder}/log || true"])
        return text if all(end in text for end in ENDS) else ""

    try:
        application.python(SEND, stdin=canary)
        yield until("the end of every canary job", complete_log, RESUME_S)
    finally:
        application.remove(broker)


def test_a_worker_logs_events_without_the_arguments_of_jobs(log, canary):
    for line in (
        "working for [redacted]",
        "ValueError('no customer [redacted]')",
        "retry: Retry in 1s: ValueError('[redacted] is away')",
        "the database refused: ",
    ):
        assert line in log
    assert canary not in log


def test_no_log_or_journal_of_the_fleet_holds_the_arguments_of_jobs(site, log, canary):
    look = f"""
    grep -rlF '{canary}' /var/log --exclude-dir=journal
    find /var/log -name '*.gz' -exec zgrep -lF '{canary}' {{}} +
    journalctl --no-pager --output=cat | grep -F '{canary}'
    true
    """
    groups = ("rabbitmq", "postgresql", "celery_workers", "producers")
    hosts = {host.name: host for group in groups for host in site.group(group)}
    lines = {name: host.run(["sh", "-s"], look) for name, host in hosts.items()}
    assert {name: found for name, found in lines.items() if found.strip()} == {}


def test_the_log_of_the_database_holds_no_statements(site, log):
    (server,) = site.group("postgresql")
    lines = server.run(["sh", "-c", "cat /var/log/postgresql/*.log"]).splitlines()
    assert any("database system is ready to accept connections" in line for line in lines), "it logs nothing"
    signs = ("STATEMENT:", "DETAIL:", "invalid input syntax")
    assert [line for line in lines if any(sign in line for sign in signs)] == []
