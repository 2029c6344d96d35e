"""Follows a job, and the programs that it meets on its way."""

from __future__ import annotations

import time
from collections.abc import Callable

from lab.demo import traffic, videos
from lab.demo.fleet import Fleet, Host

# Celery looks for a lost broker again after 2, 4, 6 … and at most 30 s.
RESUME_S = 90.0
# The long video's transcoding, on two busy cores.
DONE_S = 240.0

# Long enough in the work for a test to step in.
LONG = videos.Video("site-long", (1280, 720), 40, (1280, 720))
SHORT = videos.Video("site-short", (320, 180), 1, (320, 180))


def until(what: str, look: Callable[[], object], seconds: float):
    """The first answer that is true; fails with the last one."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:.0f} s; last seen: {seen!r}"
        time.sleep(0.2)  # between two looks; the deadline ends them
    return seen


def ended(answer: traffic.Answer, seconds: float = DONE_S) -> dict:
    def look() -> dict | None:
        told = traffic.look(answer.location)
        return told if told.get("state") in ("done", "failed") else None

    return until(f"the end of {answer.location}", look, seconds)


def ffmpeg_of(site: Fleet, answer: traffic.Answer) -> tuple[Host, str]:
    """The worker host and the process that transcode this job; its key stands in the names of the files."""
    key = answer.location.rsplit("/", 1)[1]

    def look() -> tuple[Host, str] | None:
        for worker in site.group("celery_workers"):
            if found := worker.run(["sh", "-c", f"pgrep -f '^ffmpeg .*{key}' || true"]).split():
                return worker, found[0]
        return None

    return until(f"the transcoding of {key}", look, RESUME_S)


def programs(host: Host) -> dict[str, str]:
    """Each program's name and what supervisord says of it, e.g. `RUNNING pid 12`."""
    lines = host.run(["sh", "-c", "supervisorctl status || true"]).splitlines()
    return {name: state.strip().split(",")[0] for name, _, state in (line.partition(" ") for line in lines)}


def settled(host: Host) -> dict[str, str]:
    """The programs once all run: whoever was started a moment ago counts as starting for its first ten seconds."""

    def all_run() -> dict[str, str] | None:
        found = programs(host)
        return found if all(state.startswith("RUNNING") for state in found.values()) else None

    return until(f"{host.name}'s first ten seconds", all_run, RESUME_S)
