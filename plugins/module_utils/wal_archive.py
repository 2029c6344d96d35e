"""Waits until a repository has the WAL of a live PostgreSQL server."""

from __future__ import annotations

import json
import time
from typing import Any

from . import psql
from .row_counts import Server

ARCHIVED_SQL = """
SELECT json_build_object(
  'newest_wal', last_archived_wal, 'failed_wal', last_failed_wal, 'lost_at', extract(epoch FROM clock_timestamp()),
  'next_xid', pg_snapshot_xmax(pg_current_snapshot())::text)
FROM pg_stat_archiver;
"""
# A commit, and the end of its segment: an empty segment would not be closed.
CLOSE_SQL = """
SELECT pg_walfile_name(pg_logical_emit_message(true, 'grunnfjell', 'a commit'));
SELECT NULL FROM pg_switch_wal();
"""
# Beyond archive_timeout, an upload is tried for a minute.
ARCHIVE_S = 120


def wait_archived(server: Server, segment: str, seconds: float) -> dict[str, Any]:
    """The state of the archive once it has the segment; the last state after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        state = json.loads(server.ask(ARCHIVED_SQL))
        if (state["newest_wal"] or "") >= segment or time.monotonic() > deadline:
            return state
        time.sleep(0.2)  # between two looks; the deadline ends them


def archive_now(server: Server, seconds: float = ARCHIVE_S) -> None:
    """Close the segment of everything that was committed, and wait until the repository has it; raises PsqlError."""
    segment = server.ask(CLOSE_SQL).split()[0]
    limit = min(seconds, ARCHIVE_S)
    state = wait_archived(server, segment, limit)
    if (state["newest_wal"] or "") < segment:
        raise psql.PsqlError(f"the repository has no WAL of now after {limit:g} s. Look at PostgreSQL's log")
