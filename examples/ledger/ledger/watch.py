"""How long a job waited for its database, or why it did not get it: a line each in LEDGER_WATCH, for who measures.

In a file, because what is to be told is also that the database could not be reached.
"""

import os
import time
from types import TracebackType

FILE = os.environ.get("LEDGER_WATCH", "")


def tell(*words: object) -> None:
    """One write, so that the lines of many processes do not mix. Without a file to write to, nothing."""
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
