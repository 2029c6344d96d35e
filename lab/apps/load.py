"""A client that gives an application work at a bounded rate while something happens to its fleet."""

from __future__ import annotations

import threading
from types import TracebackType

from lab.apps.application import Application


class Load:
    """Send while the block runs; `accepted` holds the keys of what the application accepted."""

    def __init__(self, application: Application, every_s: float) -> None:
        self.accepted: list[str] = []
        self.refused = 0
        self._application = application
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure and not error:
            raise self._failure

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                key = self._application.send()
                if key is None:
                    self.refused += 1
                else:
                    self.accepted.append(key)
                self._stop.wait(self._every_s)
        except BaseException as error:  # a client that dies fails the test
            self._failure = error
