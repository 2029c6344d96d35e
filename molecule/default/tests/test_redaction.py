"""What is never in a log: whatever a job was called with, be it done, retried or dead, on any host of the fleet."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from jobs import RESUME_S, until

from lab.demo.fleet import Fleet, Host

pytestmark = pytest.mark.disruptive

FOLDER = "/var/tmp/grunnfjell-canary"
UNIT = "grunnfjell-canary"

# Every way in which a job's arguments come into a log: Celery's own lines, the code's lines, what it prints, its exceptions with
# their causes, a retry, and what the database is sent and refuses. The application's own settings, in a queue of its own.
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


@pytest.fixture(scope="module")
def canary() -> str:
    return f"kari.nordmann.{uuid.uuid4().hex}@example.org"


@pytest.fixture(scope="module")
def log(site: Fleet, canary: str) -> Iterator[str]:
    """What the worker logged of the jobs, once each has come to its end."""
    worker, (broker,) = site.group("celery_workers")[0], site.group("rabbitmq")
    run_script = f"/opt/{worker.application}/current/run"
    as_user = f"cd {FOLDER}; exec runuser -u www-data -- {run_script}"
    worker.run(["install", "-d", "-o", "www-data", FOLDER])
    worker.run(["sh", "-c", f"cat > {FOLDER}/canary.py"], APP)
    celery = "celery --app=canary worker --hostname=canary@%h --concurrency=1 --queues=canary --task-events"
    line = f"{as_user} {celery} --loglevel=DEBUG --logfile={FOLDER}/log"
    try:
        worker.run(["systemd-run", "--quiet", f"--unit={UNIT}", "sh", "-c", line])
        worker.run(["sh", "-c", f"cat > {FOLDER}/send.py"], SEND)
        worker.run(["sh", "-c", f"{as_user} python send.py"], canary)

        def ended() -> str:
            told = worker.run(["sh", "-c", f"cat {FOLDER}/log || true"])
            wanted = ("canary.done[canary-done] succeeded", "canary.fails[canary-fails] raised", "Received unregistered task")
            more = ("canary.retries[canary-retries] raised", "canary.database[canary-database] raised")
            return told if all(text in told for text in (*wanted, *more)) else ""

        yield until("the end of every canary job", ended, RESUME_S)
    finally:
        worker.run(["sh", "-c", f"systemctl stop {UNIT} || true; systemctl reset-failed {UNIT} || true; rm -r {FOLDER}"])
        vhost = worker.application
        broker.run(
            ["sh", "-c", f"rabbitmqctl -q delete_queue -p {vhost} canary; rabbitmqctl -q purge_queue -p {vhost} dead_letters"]
        )


def everywhere(site: Fleet) -> dict[str, Host]:
    return {host.name: host for group in ("rabbitmq", "postgresql", "celery_workers", "producers") for host in site.group(group)}


def test_a_worker_logs_what_happened_and_not_for_whom(log, canary):
    for told in (
        "working for [redacted]",
        "ValueError('no customer [redacted]')",
        "retry: Retry in 1s: ValueError('[redacted] is away')",
        "the database refused: ",
    ):
        assert told in log
    assert canary not in log


def test_no_log_and_no_journal_of_the_fleet_holds_what_a_job_was_called_with(site, log, canary):
    look = f"""
    grep -rlF '{canary}' /var/log --exclude-dir=journal
    find /var/log -name '*.gz' -exec zgrep -lF '{canary}' {{}} +
    journalctl --no-pager --output=cat | grep -F '{canary}'
    true
    """
    found = {name: host.run(["sh", "-s"], look) for name, host in everywhere(site).items()}
    assert {name: said for name, said in found.items() if said.strip()} == {}


def test_the_database_s_log_holds_no_statement_whatever_an_application_sends(site, log):
    (server,) = site.group("postgresql")
    told = server.run(["sh", "-c", "cat /var/log/postgresql/*.log"])
    assert "database system is ready to accept connections" in told  # it does log
    assert [
        line for line in told.splitlines() if "STATEMENT:" in line or "DETAIL:" in line or "invalid input syntax" in line
    ] == []
