"""A line that shows how far a long step has come."""

from __future__ import annotations

import sys
import threading
import time


class Progress:
    """One line that is rewritten on a terminal; elsewhere a new line every few seconds."""

    def __init__(self, title: str) -> None:
        self.title, self.step, self.started, self.done = title, "", time.monotonic(), threading.Event()
        self.thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def _tick(self) -> None:
        terminal = sys.stdout.isatty()
        while not self.done.wait(0.5 if terminal else 5):
            line = f"{self.title}: {self.seconds:3.0f} s  {self.step}"
            print(f"\r\033[K{line[:110]}" if terminal else line, end="" if terminal else "\n", flush=True)
