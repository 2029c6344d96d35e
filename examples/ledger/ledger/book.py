"""A job's rows in PostgreSQL, through PgBouncer: deliveries, end, effect. libpq finds the server by PGSERVICE."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

# A connection string that overrides PGSERVICE's entry: `make drill-herd` bypasses PgBouncer with it.
DATABASE = os.environ.get("LEDGER_DATABASE", "")
# A process may keep its connection from job to job. By default each job opens one, as Django does with CONN_MAX_AGE = 0.
KEPT = os.environ.get("LEDGER_CONNECTION", "job") == "process"
# Shared by all jobs: their transactions also update existing rows.
ACCOUNTS = 1000

_kept: psycopg.Connection | None = None


def connect() -> psycopg.Connection:
    # No prepared statements: with transaction pooling the next query may use another server connection.
    return psycopg.connect(DATABASE, autocommit=True, prepare_threshold=None, connect_timeout=5)


@contextmanager
def opened() -> Iterator[psycopg.Connection]:
    """A job's connection: a new one, or the one that its process keeps while it works."""
    global _kept
    if not KEPT:
        with connect() as db:
            yield db
        return
    if _kept is None or _kept.closed:
        _kept = connect()
    try:
        yield _kept
    except BaseException:
        _kept.close()
        raise


def delivered(db: psycopg.Connection, key: str, worker: str) -> None:
    """In a separate transaction: a run that is cut leaves its trace."""
    db.execute("INSERT INTO deliveries (key, worker, process) VALUES (%s, %s, %s)", (key, worker, os.getpid()))


def enter(db: psycopg.Connection, key: str, number: int, worker: str) -> None:
    """In one transaction: only the first run that enters the key has the effect."""
    with db.transaction():
        first = db.execute(
            "INSERT INTO done (key, number, worker) VALUES (%s, %s, %s) ON CONFLICT (key) DO NOTHING", (key, number, worker)
        ).rowcount
        if first:
            db.execute("INSERT INTO effects (key) VALUES (%s)", (key,))
            db.execute(
                "INSERT INTO accounts AS a (account, entries) VALUES (%s, 1) "
                "ON CONFLICT (account) DO UPDATE SET entries = a.entries + 1",
                (number % ACCOUNTS,),
            )


def is_done(key: str) -> bool:
    with connect() as db:
        return db.execute("SELECT 1 FROM done WHERE key = %s", (key,)).fetchone() is not None


def done_of(keys: list[str]) -> set[str]:
    """Those of the keys that are done."""
    with connect() as db:
        return {str(key) for (key,) in db.execute("SELECT key FROM done WHERE key = ANY(%s::uuid[])", (keys,))}


def note(jobs: list[list], kept_days: int) -> None:
    """That the jobs, each of which begins with its key, were accepted."""
    with connect() as db, db.transaction():
        db.execute(
            "INSERT INTO accepted (key, job) SELECT (job ->> 0)::uuid, job FROM jsonb_array_elements(%s::jsonb) AS job "
            "ON CONFLICT (key) DO NOTHING",
            (json.dumps(jobs),),
        )
        db.execute("DELETE FROM accepted WHERE accepted_at < now() - make_interval(days => %s)", (kept_days,))


def noted() -> list[list]:
    """The jobs that any producer has accepted."""
    with connect() as db:
        return [job for (job,) in db.execute("SELECT job FROM accepted ORDER BY accepted_at")]
