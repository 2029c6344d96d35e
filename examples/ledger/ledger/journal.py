"""The jobs that this producer accepted: after a restore of the database they say what must be done again.

Only where LEDGER_JOURNAL names a directory. One file per day is written through before the client has its 202; files older than
KEPT_DAYS are removed, since no older backup is kept. The database gets a copy within a second, for the day on which the producers
are lost as well: its WAL leaves the fleet all the time.
"""

import atexit
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import psycopg

from ledger import book

KEPT_DAYS = 21
COPY_EVERY_S = 1.0
# Jobs that wait for a database that is away; the files have the others.
WAITING = 100_000

_directory = os.environ.get("LEDGER_JOURNAL", "")
_waiting: deque[list] = deque(maxlen=WAITING)
_copying = threading.Lock()


def write(*job: object) -> None:
    """Through to the disk, before the client has its 202; in one write, so lines of several processes do not mix."""
    if not _directory:
        return
    path = Path(_directory) / f"{time.strftime('%Y-%m-%d', time.gmtime())}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in sorted(path.parent.glob("*.jsonl"))[:-KEPT_DAYS]:
            old.unlink(missing_ok=True)
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(job).encode() + b"\n")
        os.fsync(file.fileno())
    _waiting.append(list(job))
    if _copying.acquire(blocking=False):
        # This process copies from now on, and once more when it ends. Not at import: gunicorn forks after it.
        atexit.register(copy)
        threading.Thread(target=_copy_always, daemon=True).start()


def _copy_always() -> None:
    while True:
        # One transaction for the jobs of a second, instead of one for each.
        time.sleep(COPY_EVERY_S)
        copy()


def copy() -> None:
    """Give the database what waits; it waits on while the database is away."""
    batch = [_waiting.popleft() for _ in range(len(_waiting))]
    try:
        if batch:
            book.note(batch, KEPT_DAYS)
    except psycopg.Error:
        _waiting.extendleft(reversed(batch))


def jobs() -> Iterator[list]:
    """Every job in the journal, the oldest first; a line that a crash cut off was never answered with 202."""
    for path in sorted(Path(_directory).glob("*.jsonl")) if _directory else []:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue
