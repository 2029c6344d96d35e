"""The jobs that this producer accepted, in one file per day: after a restore of the database they say what must be done again.

Only where LEDGER_JOURNAL names a directory. Files older than KEPT_DAYS are removed: no older backup is kept.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

KEPT_DAYS = 21

_directory = os.environ.get("LEDGER_JOURNAL", "")


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


def jobs() -> Iterator[list]:
    """Every job in the journal, the oldest first; a line that a crash cut off was never answered with 202."""
    for path in sorted(Path(_directory).glob("*.jsonl")) if _directory else []:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue
