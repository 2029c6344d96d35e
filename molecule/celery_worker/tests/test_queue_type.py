"""A classic queue becomes a quorum queue under load, and no job is lost or doubled."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deadline import until
from playbook_runner import play

testinfra_hosts = ["ansible://rabbitmq"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

PLAYBOOK = "playbooks/queue_type.yml"
PROGRAM = (Path(__file__).parent / "queue_traffic.py").read_text(encoding="utf-8")
STOP = "/var/tmp/grunnfjell-queue-stop"
JOBS = 1000


@pytest.fixture
def traffic(host, inputs) -> Callable[..., str]:
    """Output of queue_traffic.py."""

    def run(*arguments: str | int) -> str:
        argv = ["python", "-c", PROGRAM, *map(str, arguments)]
        return host.check_output(f"runuser -u {inputs['application_user']} -- /opt/newsroom/current/run {shlex.join(argv)}")

    return run


@pytest.fixture
def load(host, inputs) -> Iterator[Callable[..., dict]]:
    """Starts to publish to a queue; call what it returns to stop, for the number of jobs and the longest wait."""
    unit, log = f"grunnfjell-queue-load-{uuid.uuid4().hex[:8]}", f"{STOP}.log"
    host.run(f"rm -f {STOP} {log}")

    def start(queue: str, first: int) -> Callable[[], dict]:
        argv = ["/opt/newsroom/current/run", "python", "-c", PROGRAM, "load", queue, str(first), STOP]
        line = f"exec {shlex.join(argv)} >{log} 2>&1"
        host.check_output(f"systemd-run --quiet --collect --unit={unit} sh -c %s", f"umask 0; {line}")
        until("a job of the load", lambda: depth(host, queue) > first, 60)

        def stop() -> dict:
            host.check_output(f"touch {STOP}")
            return until("the end of the load", lambda: json.loads(host.file(log).content_string or "null"), 60)

        return stop

    yield start
    host.run(f"systemctl stop {unit}; rm -f {STOP} {log}")


def depth(host, queue: str) -> int:
    rows = json.loads(host.check_output("rabbitmqctl -q list_queues -p newsroom name messages --formatter json"))
    return next((row["messages"] for row in rows if row["name"] == queue), 0)


def queues(host) -> dict[str, tuple[str, str]]:
    rows = host.check_output("rabbitmqctl -q list_queues -p newsroom name type policy").splitlines()
    return {row.split("\t")[0]: tuple(row.split("\t")[1:]) for row in rows}


@pytest.fixture
def queue(host, traffic) -> Iterator[str]:
    """A durable classic queue with jobs."""
    name = f"old-{uuid.uuid4().hex[:8]}"
    traffic("declare", name)
    assert traffic("publish", name, 0, JOBS) == str(JOBS)
    yield name
    for left in (name, f"{name}.moving"):
        host.run(f"rabbitmqctl -q delete_queue -p newsroom {left}")


def test_a_classic_queue_becomes_a_quorum_queue_under_load_without_losing_a_job(host, inventory, traffic, load, queue):
    stop = load(queue, JOBS)
    run = play(inventory, PLAYBOOK, "-e", f"queue_type_queue={queue}")
    figures = stop()
    assert run.returncode == 0 and f"newsroom/{queue} is a quorum queue" in run.text, run.output
    assert queues(host)[queue] == ("quorum", "work") and f"{queue}.moving" not in queues(host)
    jobs = json.loads(traffic("take", queue))
    assert sorted(jobs) == list(range(figures["following"])), "lost or doubled"
    assert figures["longest_s"] < 5, figures
    early = [number for number in jobs if number < JOBS]
    assert early == sorted(early), "jobs that waited when it began keep their order"
    assert "grunnfjell-queue-type" not in host.check_output("rabbitmqctl -q list_users")
    # Once more: nothing to do, and its binding leads to it.
    run = play(inventory, PLAYBOOK, "-e", f"queue_type_queue={queue}")
    assert run.returncode == 0 and "was a quorum queue already" in run.text, run.output
    traffic("publish", queue, 0, 2)
    assert json.loads(traffic("take", queue)) == [0, 1]


def test_a_replacement_that_was_cut_off_is_completed_by_the_next_one(host, inventory, traffic, queue):
    """As if it had ended between the deletion of the old queue and the declaration of the new one."""
    aside = f"{queue}.moving"
    traffic("declare", aside)
    traffic("publish", aside, JOBS, JOBS + 5)
    jobs = json.loads(traffic("take", queue))
    host.check_output(f"rabbitmqctl -q delete_queue -p newsroom {queue}")
    run = play(inventory, PLAYBOOK, "-e", f"queue_type_queue={queue}")
    assert run.returncode == 0, run.output
    assert queues(host)[queue][0] == "quorum" and aside not in queues(host)
    assert len(jobs) == JOBS and json.loads(traffic("take", queue)) == list(range(JOBS, JOBS + 5))


REFUSED = {
    "absent": ("", "The broker has no queue newsroom/absent. Its work queues are:"),
    "dead_letters": ("", "No job waits in newsroom/dead_letters"),
    "5a1e0d3c-0000-4000-8000-000000000000": ("true, false, []", "replies, events and remote control need their type"),
    "ranked": ('true, false, [{<<"x-max-priority">>, long, 3}]', "newsroom/ranked has 3 priorities, which a quorum queue"),
    "broadcast": ("true, true, []", "newsroom/broadcast is deleted with its connection or emptied by a restart"),
    "transient": ("false, false, []", "newsroom/transient is deleted with its connection or emptied by a restart"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_queue_that_must_stay_what_it_is_is_refused(host, name):
    arguments, sentence = REFUSED[name]
    code = f'rabbit_amqqueue:declare(rabbit_misc:r(<<"newsroom">>, queue, <<"{name}">>), {arguments}, none, <<"test">>), ok.'
    if arguments:
        host.check_output(f"rabbitmqctl -q eval {shlex.quote(code)}")
    try:
        before = queues(host)
        question = json.dumps({"vhost": "newsroom", "queue": name})
        answer = host.ansible("grunnfjell.platform.rabbitmq_queue_type", question, check=False)
        assert sentence in answer["msg"], answer
        assert queues(host) == before
    finally:
        if arguments:
            host.run(f"rabbitmqctl -q delete_queue -p newsroom {name}")


@pytest.fixture
def classic(host, fleet, fleet_inputs, traffic) -> Iterator[str]:
    """The queue of the program slow as an older release declared it, with jobs. The program fails, since it declares another."""
    workers = [fleet[name] for name, inputs in fleet_inputs.items() if "celery_worker_programs" in inputs]

    def everywhere(verb: str) -> None:
        for worker in workers:
            worker.run(f"supervisorctl {verb} slow")

    try:
        everywhere("stop")
        host.run("rabbitmqctl -q delete_queue -p newsroom slow")
        traffic("declare", "slow", "topic")
        traffic("publish", "slow", 0, 20)
        everywhere("start")
        yield "slow"
    finally:
        host.run("rabbitmqctl -q purge_queue -p newsroom dead_letters")
        if queues(host).get("slow", ("",))[0] != "quorum":
            everywhere("stop")
            host.run("rabbitmqctl -q delete_queue -p newsroom slow")
        everywhere("start")


def test_the_programs_of_a_queue_stop_and_start_again_and_its_jobs_run(host, inventory, classic):
    """The upgrade of an application whose older release declared the queue classic."""
    run = play(inventory, "playbooks/celery_worker.yml")
    run.assert_failed("a job that kills its process runs in newsroom/slow for ever", "make queue-type QUEUE=slow")
    run = play(inventory, PLAYBOOK, "-e", f"queue_type_queue={classic}")
    assert run.returncode == 0, run.output
    assert "RUNNING" in host.check_output("supervisorctl status slow")
    # No worker knows them as tasks, so each is a dead letter, and none of them twice.
    until("20 dead letters", lambda: depth(host, "dead_letters") == 20, 60)
    assert queues(host)["slow"] == ("quorum", "work") and depth(host, "slow") == 0
