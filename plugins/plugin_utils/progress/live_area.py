"""Lines at the bottom of a terminal that are redrawn in place, below all other output."""

from __future__ import annotations

import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible.utils.color import stringc

from .lines import Line

TICK_S = 0.25
MIN_COLUMNS, MIN_ROWS = 20, 6
# More lines would push the other output off the screen.
MAX_LINES = 16


def wanted(environment: Mapping[str, str], terminal: bool, verbosity: int) -> bool:
    """Whether to show the live area: on a terminal that can move its cursor, not in CI, without -v."""
    ci = environment.get("CI", "").lower() not in ("", "0", "false")
    return terminal and verbosity == 0 and not ci and environment.get("TERM", "dumb") != "dumb"


def cells(text: str) -> int:
    """Columns that the text takes on a terminal."""
    return sum(0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def clip(text: str, columns: int) -> str:
    if cells(text) <= columns:
        return text
    while cells(text) > columns - 1:
        text = text[:-1]
    return text + "…"


class LiveArea:
    """lines: returns the lines for the terminal's columns and the highest number of rows.

    Ansible prints through one Display object in the main process and forks its workers while it holds that object's lock. All
        drawing happens under the same lock, so a worker is never forked in the middle of it. The cursor stays below the area and
        is never hidden, so a killed run leaves the terminal usable.
    """

    def __init__(self, display: Any, lines: Callable[[int, int], list[Line]]) -> None:
        self._display = display
        self._lines = lines
        self._pid = os.getpid()
        self._lock = getattr(display, "_lock", None) or threading.RLock()
        self._drawn: list[int] = []  # the width of each line on the screen
        self._shown = ""
        self._closed = threading.Event()
        self._hidden = 0
        for name in ("display", "do_var_prompt", "prompt_until"):
            setattr(display, name, self._above(getattr(display, name)))
        threading.Thread(target=self._tick, daemon=True).start()

    def _above(self, print_it: Callable) -> Callable:
        """The method of Display, with the area hidden while it prints."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            # A worker sends its output to the main process. Output for the log only does not touch the screen.
            if os.getpid() != self._pid or self._closed.is_set() or kwargs.get("log_only"):
                return print_it(*args, **kwargs)
            with self.hidden():
                return print_it(*args, **kwargs)

        return wrapper

    @contextmanager
    def hidden(self) -> Iterator[None]:
        with self._lock:
            self._write(self._erasure())
            self._drawn, self._shown = [], ""
            self._hidden += 1
        try:
            yield  # without the lock: a prompt may wait long, and must not block the other hosts
        finally:
            with self._lock:
                self._hidden -= 1
                self._draw()

    def close(self) -> None:
        """Removes the area for good. Display keeps its wrapped methods, which then only print."""
        with self._lock:
            if not self._closed.is_set() and os.getpid() == self._pid:
                self._closed.set()
                self._write(self._erasure())

    def _tick(self) -> None:
        while not self._closed.wait(TICK_S):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        if self._closed.is_set() or self._hidden:
            return
        try:
            columns, rows = os.get_terminal_size(sys.stdout.fileno())
        except (OSError, ValueError):
            return
        fits = columns >= MIN_COLUMNS and rows >= MIN_ROWS
        lines = self._lines(columns, min(MAX_LINES, rows - 2)) if fits else []
        clipped = [(clip(text, columns - 1), colour) for text, colour in lines]
        text = "".join(f"{stringc(text, colour) if colour else text}\n" for text, colour in clipped)
        if text != self._shown:
            self._write(self._erasure() + text)
            self._shown, self._drawn = text, [cells(text) for text, _ in clipped]

    def _erasure(self) -> str:
        """Clears the area's lines, from the last one up, including lines that wrapped when the terminal became narrower.

        Does not clear the screen below the first one, which tmux would keep in its history."""
        if not self._drawn:
            return ""
        try:
            columns = max(1, os.get_terminal_size(sys.stdout.fileno()).columns)
        except (OSError, ValueError):
            return ""
        return "\r\033[K" + "\033[A\033[K" * sum(max(1, -(-width // columns)) for width in self._drawn)

    @staticmethod
    def _write(text: str) -> None:
        if text:
            try:
                sys.stdout.write(text)
                sys.stdout.flush()
            except (OSError, ValueError):
                pass  # the terminal is gone; Ansible notices that itself


class LogOnly:
    """Display for the default callback: its output goes only to the log file, unless `loud`."""

    def __init__(self, display: Any) -> None:
        self._real = display
        self.loud = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def display(self, msg: str, *args: Any, **kwargs: Any) -> None:
        if not self.loud:
            kwargs["log_only"] = True
        self._real.display(msg, *args, **kwargs)

    # Display's methods, which print through the method above.
    def banner(self, *args: Any, **kwargs: Any) -> None:
        type(self._real).banner(self, *args, **kwargs)

    def _error(self, *args: Any, **kwargs: Any) -> None:
        type(self._real)._error(self, *args, **kwargs)
