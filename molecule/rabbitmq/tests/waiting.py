"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(what: str, look: Callable[[], object], seconds: float = 60):
    """The first answer that is true; fails with the last one."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:.0f} s; last seen: {seen!r}"
        time.sleep(0.1)  # between two looks; the deadline ends them
    return seen
