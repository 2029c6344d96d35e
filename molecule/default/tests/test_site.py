"""What the site promises as a whole: an accepted job is done whatever dies on its way, and nothing is accepted falsely."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.demo import fleet, traffic, videos
from lab.demo.fleet import Fleet, Host

# A client gets its answer within this, whatever the broker does.
ANSWER_S = 5.0
# Celery looks for a lost broker again after 2, 4, 6 … and at most 30 s.
RESUME_S = 90.0
# The long video's transcoding, on two busy cores.
DONE_S = 240.0

# Long enough in the work for a test to step in.
LONG = videos.Video("site-long", (1280, 720), 40, (1280, 720))
SHORT = videos.Video("site-short", (320, 180), 1, (320, 180))


@pytest.fixture(scope="module")
def site(request) -> Fleet:
    return fleet.read(request.config.option.ansible_inventory)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[videos.Video, Path]:
    return videos.make((LONG, SHORT), tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def upload(site, films) -> Callable[[videos.Video], traffic.Answer]:
    producer = site.group("producers")[0]
    return lambda video: traffic.post(producer.url, films[video])


def until(what: str, look: Callable[[], object], seconds: float):
    """The first answer that is true; fails with the last one."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:.0f} s; last seen: {seen!r}"
        time.sleep(0.2)
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


def works_again(upload: Callable[[videos.Video], traffic.Answer]) -> dict:
    """A new upload is accepted, and done by workers that nobody touched."""

    def accepted() -> traffic.Answer | None:
        answer = upload(SHORT)
        return answer if answer.status == 202 else None

    return ended(until("a 202", accepted, RESUME_S))


def assert_refused(upload: Callable[[videos.Video], traffic.Answer], times: int = 6) -> None:
    """Not one upload is accepted falsely, and each client knows in time."""
    for _ in range(times):
        answer = upload(SHORT)
        assert answer.status == 503, answer
        assert answer.seconds < ANSWER_S, answer


def exists(host: Host, path: str) -> bool:
    return host.run(["sh", "-c", f"test -e {path} && echo yes || true"]).strip() == "yes"


@contextmanager
def brokers(site: Fleet, hurt: str, heal: str) -> Iterator[None]:
    hosts = site.group("rabbitmq")
    for host in hosts:
        host.run(["sh", "-c", hurt], timeout_s=300)
    try:
        yield
    finally:
        for host in hosts:
            host.run(["sh", "-c", heal])
        for host in hosts:
            # Waits for a start that is under way.
            host.run(["systemctl", "start", "rabbitmq-server"], timeout_s=300)


def test_a_job_whose_process_is_killed_is_done_all_the_same(site, upload):
    answer = upload(LONG)
    worker, ffmpeg = ffmpeg_of(site, answer)
    child = worker.run(["ps", "-o", "ppid=", "-p", ffmpeg]).strip()
    worker.run(["kill", "-9", child])
    until("the end of the killed process's ffmpeg", lambda: not exists(worker, f"/proc/{ffmpeg}"), 10)
    told = ended(answer)
    assert (told["state"], told["attempts"]) == ("done", 2), told


def test_a_stop_in_mid_task_waits_for_the_task(site, upload):
    answer = upload(LONG)
    worker, _ = ffmpeg_of(site, answer)
    try:
        worker.run(["supervisorctl", "stop", "all"], timeout_s=700)
        told = traffic.look(answer.location)
        assert (told["state"], told["attempts"]) == ("done", 1), told
    finally:
        worker.run(["supervisorctl", "start", "all"])
    assert all(state.startswith("RUNNING") for state in programs(worker).values()), programs(worker)


def test_a_stopped_broker_means_503_in_time_and_workers_resume_by_themselves(site, upload):
    workers = site.group("celery_workers")
    before = {worker.name: programs(worker) for worker in workers}
    with brokers(site, "systemctl stop rabbitmq-server", "systemctl start --no-block rabbitmq-server"):
        assert_refused(upload)
    assert works_again(upload)["state"] == "done"
    assert {worker.name: programs(worker) for worker in workers} == before, "a worker was restarted"


def test_a_broker_stopped_in_mid_task_costs_nothing(site, upload):
    answer = upload(LONG)
    ffmpeg_of(site, answer)
    with brokers(site, "systemctl stop rabbitmq-server", "systemctl start --no-block rabbitmq-server"):
        pass
    told = ended(answer)
    assert told["state"] == "done", told


def test_a_frozen_broker_means_503_in_time(site, upload):
    with brokers(site, "pkill -STOP -u rabbitmq -x beam.smp", "pkill -CONT -u rabbitmq -x beam.smp"):
        assert_refused(upload)
    assert works_again(upload)["state"] == "done"


def test_a_broker_without_memory_to_spare_means_503_in_time(site, upload):
    alarm = "{resource_limit, memory, node()}"
    hurt, heal = f"rabbit_alarm:set_alarm({{{alarm}, []}}).", f"rabbit_alarm:clear_alarm({alarm})."
    with brokers(site, f"rabbitmqctl -q eval '{hurt}'", f"rabbitmqctl -q eval '{heal}'"):
        assert_refused(upload)
    assert works_again(upload)["state"] == "done"
