"""The result rows, through PgBouncer. libpq finds the server by PGSERVICE; each function is one short transaction."""

from typing import Any

import psycopg
from psycopg.rows import dict_row

from newsroom.keys import accepted_at


def start(key: str) -> bool:
    """Mark the job as running. False if it has ended before: then this delivery of its message must change nothing."""
    row = _one(
        """
        INSERT INTO videos (key, state, accepted_at) VALUES (%s, 'running', %s)
        ON CONFLICT (key) DO UPDATE SET attempts = videos.attempts + 1 WHERE videos.state = 'running'
        RETURNING key
        """,
        (key, accepted_at(key)),
    )
    return row is not None


def finish(key: str, **result: Any) -> None:
    """Write the result, unless the job has ended."""
    _one(
        """
        UPDATE videos SET state = 'done', finished_at = now(), width = %(width)s, height = %(height)s,
            duration_s = %(duration_s)s, video_bytes = %(video_bytes)s, poster_bytes = %(poster_bytes)s
        WHERE key = %(key)s AND state = 'running' RETURNING key
        """,
        {"key": key, **result},
    )


def fail(key: str, reason: str) -> None:
    """End the job with a reason for a person, even if it was never marked as running."""
    _one(
        """
        INSERT INTO videos (key, state, reason, accepted_at, finished_at) VALUES (%s, 'failed', %s, %s, now())
        ON CONFLICT (key) DO UPDATE SET state = 'failed', reason = excluded.reason, finished_at = now()
        WHERE videos.state = 'running' RETURNING key
        """,
        (key, reason.replace("\x00", ""), accepted_at(key)),
    )


def find(key: str) -> dict[str, Any] | None:
    return _one("SELECT * FROM videos WHERE key = %s", (key,))


def ended(keys: list[str]) -> set[str]:
    """Those of the keys whose job is done or failed."""
    query = "SELECT key FROM videos WHERE key = ANY(%s::uuid[]) AND state <> 'running'"
    with psycopg.connect("", autocommit=True, prepare_threshold=None, connect_timeout=5) as connection:
        return {str(key) for (key,) in connection.execute(query, (keys,))}


def _one(query: str, parameters: Any) -> dict[str, Any] | None:
    # No prepared statements: with transaction pooling the next query may use another server connection.
    with psycopg.connect("", autocommit=True, prepare_threshold=None, connect_timeout=5, row_factory=dict_row) as connection:
        return connection.execute(query, parameters).fetchone()
