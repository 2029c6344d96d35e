"""How long a job waited for its database, or why it was refused: a line per run in the file LEDGER_WATCH, for measurements.

A file, because the database may be what failed.
"""

import os
import time
from types import TracebackType

FILE = os.environ.get("LEDGER_WATCH", "")


def record(*words: object) -> None:
    """In one write: the lines of several processes must not mix. Does nothing without a file."""
    if FILE:
        line = "\t".join(str(word) for word in (f"{time.time():.3f}", *words)).replace("\n", " ") + "\n"
        with open(FILE, "ab", buffering=0) as file:
            file.write(line.encode())


class Timed:
    """`with Timed() as entry: ...` and then `entry.ms`."""

    ms = 0.0

    def __enter__(self) -> "Timed":
        self._began = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ms = round((time.perf_counter() - self._began) * 1000, 2)
