"""Waits for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: str, look: Callable[[], object], seconds: float = 60):
    """Return the first true result of `look`; after the deadline, fail with the last one."""
    deadline = time.monotonic() + seconds
    while not (result := look()):
        assert time.monotonic() < deadline, f"{condition} did not come true within {seconds:.0f} s; last seen: {result!r}"
        time.sleep(0.2)  # between two looks; the deadline ends them
    return result
