"""Look at a service again and again, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def until(look: Callable[[], Seen], seconds: float, pause: float = 0.2) -> Seen:
    """The first true result, or the last one at the deadline.

    >>> looks = iter([0, 0, 3])
    >>> until(lambda: next(looks), 5, 0), until(lambda: 0, 0)
    (3, 0)
    """
    deadline = time.monotonic() + seconds
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(pause)  # between two looks; the deadline ends them
    return seen
