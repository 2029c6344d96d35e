"""Follows a job, and the programs that process it."""

from __future__ import annotations

from deadline import until

from lab.demo import traffic, videos
from lab.demo.fleet import Fleet, Host

# Celery retries a lost broker after 2, 4, 6 … and at most 30 s.
RESUME_S = 90.0
# The transcoding of the long video, on two busy cores.
DONE_S = 240.0

# Takes long enough for a test to step in.
LONG = videos.Video("site-long", (1280, 720), 40, (1280, 720))
SHORT = videos.Video("site-short", (320, 180), 1, (320, 180))


def ended(answer: traffic.Answer, seconds: float = DONE_S) -> dict:
    def look() -> dict | None:
        job = traffic.look(answer.location)
        return job if job.get("state") in ("done", "failed") else None

    return until(f"the end of {answer.location}", look, seconds)


def ffmpeg_of(site: Fleet, answer: traffic.Answer) -> tuple[Host, str]:
    """The worker host and the process that transcode this job; its key is in the file names."""
    key = answer.location.rsplit("/", 1)[1]

    def look() -> tuple[Host, str] | None:
        for worker in site.group("celery_workers"):
            if pids := worker.run(["sh", "-c", f"pgrep -f '^ffmpeg .*{key}' || true"]).split():
                return worker, pids[0]
        return None

    return until(f"the transcoding of {key}", look, RESUME_S)


def programs(host: Host) -> dict[str, str]:
    """Each program's name and state in supervisord, e.g. `RUNNING pid 12`."""
    lines = host.run(["sh", "-c", "supervisorctl status || true"]).splitlines()
    return {name: state.strip().split(",")[0] for name, _, state in (line.partition(" ") for line in lines)}


def settled(host: Host) -> dict[str, str]:
    """The programs once all are RUNNING, which supervisord reports ten seconds after a start."""

    def all_running() -> dict[str, str] | None:
        states = programs(host)
        return states if all(state.startswith("RUNNING") for state in states.values()) else None

    return until(f"all programs of {host.name}", all_running, RESUME_S)


def assert_works(worker: Host, upload) -> None:
    """Upload jobs until this worker has done one. Enough at once that some are left over for it."""
    count = f"grep -c succeeded {worker.logs}/worker.err.log || true"

    def has_worked() -> bool:
        for answer in [upload(SHORT) for _ in range(12)]:
            assert ended(answer)["state"] == "done"
        return int(worker.run(["sh", "-c", count]) or 0) > 0

    settled(worker)
    until(f"a task on {worker.name}", has_worked, DONE_S)
