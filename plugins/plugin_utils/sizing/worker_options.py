"""A worker program's command line options, queues and log name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

SHORT = {
    "B": "--beat",
    "D": "--detach",
    "E": "--task-events",
    "O": "--optimization",
    "P": "--pool",
    "Q": "--queues",
    "X": "--exclude-queues",
    "c": "--concurrency",
    "n": "--hostname",
}
WITHOUT_VALUE = "BDE"
OTHER_NAMES = {"--discard": "--purge"}


def worker_options(arguments: Iterable[object] | None) -> Iterator[tuple[str, str]]:
    """Each option of ``celery worker`` by its long name, with its value or an empty text."""
    for word, following in pairwise([*map(str, arguments or []), ""]):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            yield OTHER_NAMES.get(name, name), value if equals else following
            continue
        letters = word[1:] if word.startswith("-") else ""
        while letters:
            letter, letters = letters[0], letters[1:]
            name = SHORT.get(letter, f"-{letter}")
            if letter not in WITHOUT_VALUE:
                yield name, letters.removeprefix("=") or following
                break
            yield name, ""


def queues_of(program: dict[str, Any], usual: list[str], own: str) -> list[str]:
    """The queues that a program consumes.  usual: celery_worker_queues.  own: the application's queue."""
    return program.get("queues") or usual or [own]


def log_name(program: str) -> str:
    """celery-worker logs to worker.log, celery-mail to mail.log, as in the article."""
    return program.removeprefix("celery-")
