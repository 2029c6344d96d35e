"""What PostgreSQL keeps of a job, through PgBouncer: each delivery, the end, the effect. libpq finds the server by PGSERVICE."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

# What overrules PGSERVICE's entry, as a connection string: the way past PgBouncer for who wants to know what it is good for.
DATABASE = os.environ.get("LEDGER_DATABASE", "")
# A process may keep its connection from job to job. By default each job opens one, as Django does with CONN_MAX_AGE = 0.
KEPT = os.environ.get("LEDGER_CONNECTION", "job") == "process"
# Jobs share these, so that their transactions also update what is there already.
ACCOUNTS = 1000

_kept: psycopg.Connection | None = None


def open_it() -> psycopg.Connection:
    # No prepared statements: in transaction pooling the next query may meet another server connection.
    return psycopg.connect(DATABASE, autocommit=True, prepare_threshold=None, connect_timeout=5)


@contextmanager
def opened() -> Iterator[psycopg.Connection]:
    """A job's connection: its own, or the one that its process keeps for as long as it is good."""
    global _kept
    if not KEPT:
        with open_it() as db:
            yield db
        return
    if _kept is None or _kept.closed:
        _kept = open_it()
    try:
        yield _kept
    except BaseException:
        _kept.close()
        raise


def delivered(db: psycopg.Connection, key: str, worker: str) -> None:
    """A transaction of its own, so that a run that is cut short leaves its trace."""
    db.execute("INSERT INTO deliveries (key, worker, process) VALUES (%s, %s, %s)", (key, worker, os.getpid()))


def enter(db: psycopg.Connection, key: str, number: int, worker: str) -> None:
    """One transaction: whoever enters the key first has the effect, and nobody else."""
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
    with open_it() as db:
        return db.execute("SELECT 1 FROM done WHERE key = %s", (key,)).fetchone() is not None
