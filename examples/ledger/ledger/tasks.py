"""The work: wait as long as the job says, then enter its key. A job may be delivered twice; its effect happens once."""

import os
import signal
import time
from contextlib import ExitStack

import psycopg
from celery import Task

from ledger import book
from ledger.celery import app
from ledger.watch import Timed, record

# PgBouncer or PostgreSQL is away: the same work succeeds later. The broker holds the job meanwhile.
# psycopg raises InternalError ("received 2 results") if the server says goodbye while a command is being sent.
TRANSIENT = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
RETRY_AFTER_S = 2


@app.task(bind=True, max_retries=None, ignore_result=True)
def enter(self: Task, key: str, number: int, seconds: float, poison: bool) -> None:
    try:
        with ExitStack() as job:
            with Timed() as connecting:
                db = job.enter_context(book.opened())
            with Timed() as arriving:
                book.delivered(db, key, self.request.hostname)
            if poison:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(seconds)  # the work: a job lasts as long as its client asked
            with Timed() as entering:
                book.enter(db, key, number, self.request.hostname)
        record("done", connecting.ms, arriving.ms, entering.ms)
    except TRANSIENT as error:
        record("failed", error)
        raise self.retry(exc=error, countdown=RETRY_AFTER_S) from error
