"""Look again and again, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from lab.machine import Refusal

Seen = TypeVar("Seen")


def poll(look: Callable[[], Seen], deadline_s: float, every_s: float = 0.2) -> Seen:
    """The first look that sees something, or the last one before the deadline."""
    end = time.monotonic() + deadline_s
    while not (seen := look()) and time.monotonic() < end:
        time.sleep(every_s)  # the deadline ends it
    return seen


def until(what: str, look: Callable[[], Seen], deadline_s: float, every_s: float = 0.2) -> Seen:
    if seen := poll(look, deadline_s, every_s):
        return seen
    raise Refusal(f"waited {deadline_s:g} s for {what}, in vain.")
