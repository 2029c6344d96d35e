"""Running beats of Celery, also those that somebody started by hand.  Each of them sends every scheduled task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

# Options of `celery` before its subcommand that take the next word as their value.
VALUED = ("-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir")
# A worker's -B, also among other letters without a value: -BE.
EMBEDDED = re.compile(r"--beat|-[DE]*B[DE]*")
# With setproctitle, Celery replaces its command line by a title that ends with its options.
TITLES = re.compile(r"\[celery beat\] ?(?P<beat>.*)|\[celeryd: \S+\] \S+ \((?P<worker>.*)\)")
INSTALLED = re.compile(r"/opt/([^/]+)/")


def of_host(_: dict[str, Any]) -> dict[str, Any]:
    """The section of platform_status."""
    return {"running": running()}


def running(proc: Path = Path("/proc")) -> list[dict[str, Any]]:
    """Each running beat: its process, its Celery application as celery -A takes it, and the directory of /opt that it is in."""
    beats, parents = {}, {}
    for directory in proc.glob("[0-9]*"):
        try:
            line = (directory / "cmdline").read_bytes().decode(errors="replace")
            # The name of the program is in brackets, and may have some itself.
            parents[int(directory.name)] = int((directory / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it has ended
        if (app := beat_of(line)) is not None:
            own = INSTALLED.search(line)
            beats[int(directory.name)] = {"pid": int(directory.name), "app": app, "application": own[1] if own else ""}
    # A worker's children have its command line.
    return [beat for pid, beat in sorted(beats.items()) if parents[pid] not in beats]


def beat_of(line: str) -> str | None:
    """The Celery application of a command line that runs a beat, empty if it names none; None if it runs no beat."""
    if title := TITLES.fullmatch(line.replace("\0", " ").strip()):
        kind = "beat" if title["beat"] is not None else "worker"
        words = [word for word in (title["beat"] or title["worker"] or "").split() if word != kind]
        return application(words) if kind == "beat" or embedded(words) else None
    words = arguments(line.rstrip("\0").split("\0"))
    kind = subcommand(words)
    return application(words) if kind == "beat" or (kind == "worker" and embedded(words)) else None


def arguments(words: list[str]) -> list[str]:
    """What follows `celery`, `python .../celery` or `python -m celery`; empty if the process is something else."""
    program = Path(words[0]).name
    if program == "celery":
        return words[1:]
    if re.match(r"(python|pypy)[\d.]*$", program):
        for position, word in enumerate(words[1:], 1):
            if word == "-m" or not word.startswith("-"):
                found = words[position + 1 : position + 2] == ["celery"] if word == "-m" else Path(word).name == "celery"
                return words[position + 1 + (word == "-m") :] if found else []
    return []


def subcommand(words: list[str]) -> str:
    """The first word that is neither an option nor the value of one."""
    before = ""
    for word in words:
        if not word.startswith("-") and before not in VALUED:
            return word
        before = word
    return ""


def embedded(words: list[str]) -> bool:
    return any(EMBEDDED.fullmatch(word) for word in words)


def application(words: list[str]) -> str:
    for position, word in enumerate(words):
        if word in ("-A", "--app"):
            return "".join(words[position + 1 : position + 2])
        if match := re.match(r"--app=(.*)|-A(.+)", word):
            return match[1] or match[2] or ""
    return ""
