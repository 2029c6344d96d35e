"""What PostgreSQL keeps of a job, through PgBouncer: each delivery, the end, the effect. libpq finds the server by PGSERVICE."""

import os

import psycopg


def open_it() -> psycopg.Connection:
    # No prepared statements: in transaction pooling the next query may meet another server connection.
    return psycopg.connect("", autocommit=True, prepare_threshold=None, connect_timeout=5)


def delivered(db: psycopg.Connection, key: str, worker: str) -> None:
    """A transaction of its own, so that a run that is cut short leaves its trace."""
    db.execute("INSERT INTO deliveries (key, worker, process) VALUES (%s, %s, %s)", (key, worker, os.getpid()))


def enter(db: psycopg.Connection, key: str, number: int, worker: str) -> None:
    """One statement, and so one transaction: whoever enters the key first has the effect, and nobody else."""
    db.execute(
        """
        WITH first AS (
            INSERT INTO done (key, number, worker) VALUES (%s, %s, %s) ON CONFLICT (key) DO NOTHING RETURNING key
        )
        INSERT INTO effects (key) SELECT key FROM first
        """,
        (key, number, worker),
    )


def is_done(key: str) -> bool:
    with open_it() as db:
        return db.execute("SELECT 1 FROM done WHERE key = %s", (key,)).fetchone() is not None
