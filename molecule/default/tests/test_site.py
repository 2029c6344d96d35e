"""What the site promises as a whole: an accepted job is done whatever fails, and no job is accepted falsely."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from deadline import until
from jobs import LONG, RESUME_S, SHORT, ended, ffmpeg_of, programs, settled

from lab.demo import traffic, videos
from lab.demo.fleet import Fleet, Host

# A client gets its answer within this, whatever the broker does.
ANSWER_S = 5.0

pytestmark = pytest.mark.disruptive


def works_again(upload: Callable[[videos.Video], traffic.Answer]) -> dict:
    """A new upload is accepted, and done by workers that nobody touched."""
    return ended(until("a 202", lambda: (answer := upload(SHORT)).status == 202 and answer, RESUME_S))


def assert_refused(upload: Callable[[videos.Video], traffic.Answer], times: int = 6) -> None:
    """No upload is accepted falsely, and each client gets its answer in time."""
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
            # Waits for a start in progress.
            host.run(["systemctl", "start", "rabbitmq-server"], timeout_s=300)


def test_a_job_whose_process_is_killed_is_done_nevertheless(site, upload):
    answer = upload(LONG)
    worker, ffmpeg = ffmpeg_of(site, answer)
    child = worker.run(["ps", "-o", "ppid=", "-p", ffmpeg]).strip()
    worker.run(["kill", "-9", child])
    until("the end of the killed process's ffmpeg", lambda: not exists(worker, f"/proc/{ffmpeg}"), 10)
    job = ended(answer)
    assert (job["state"], job["attempts"]) == ("done", 2), job


def test_a_stop_of_the_programs_waits_for_the_running_task(site, upload):
    answer = upload(LONG)
    worker, _ = ffmpeg_of(site, answer)
    try:
        worker.run(["supervisorctl", "stop", "all"], timeout_s=700)
        job = traffic.look(answer.location)
        assert (job["state"], job["attempts"]) == ("done", 1), job
    finally:
        worker.run(["supervisorctl", "start", "all"])
    assert all(state.startswith("RUNNING") for state in programs(worker).values()), programs(worker)


def test_a_stop_of_the_service_waits_for_the_running_task(site, upload):
    answer = upload(LONG)
    worker, _ = ffmpeg_of(site, answer)
    try:
        worker.run(["systemctl", "stop", "supervisor"], timeout_s=700)
        job = traffic.look(answer.location)
        assert (job["state"], job["attempts"]) == ("done", 1), job
    finally:
        worker.run(["systemctl", "start", "supervisor"])
    settled(worker)


def test_a_stopped_broker_means_503_in_time_and_workers_resume(site, upload):
    workers = site.group("celery_workers")
    before = {worker.name: programs(worker) for worker in workers}
    with brokers(site, "systemctl stop rabbitmq-server", "systemctl start --no-block rabbitmq-server"):
        assert_refused(upload)
    assert works_again(upload)["state"] == "done"
    assert {worker.name: programs(worker) for worker in workers} == before, "a worker was restarted"


def test_a_stop_of_the_broker_during_a_task_loses_no_job(site, upload):
    answer = upload(LONG)
    ffmpeg_of(site, answer)
    with brokers(site, "systemctl stop rabbitmq-server", "systemctl start --no-block rabbitmq-server"):
        pass
    assert ended(answer)["state"] == "done"


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
