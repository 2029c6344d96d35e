"""The gate finds faults of a live worker that no settings file shows."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

testinfra_hosts = ["ansible://rabbitmq"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

FOLDER = "/var/tmp/grunnfjell-foreign"
UNIT = "grunnfjell-foreign"
# systemd unloads a stopped transient unit a moment later, and until then refuses another one with that name.
STOP = (
    f"systemctl stop {UNIT}; "
    f"timeout 60 sh -c 'until [ $(systemctl show --property=LoadState --value {UNIT}) = not-found ]; do sleep 0.1; done'"
)
# After the kit's settings are in force, it overrides some; one of its queues stays classic because it says so, one by priorities.
APP = """
from celery import Celery
from kombu import Exchange, Queue
app = Celery("foreign")
app.conf.task_queues = [
    Queue("foreign", Exchange("foreign", type="direct"), routing_key="foreign", queue_arguments={"x-queue-type": "classic"}),
    Queue("ranked", Exchange("ranked", type="direct"), routing_key="ranked", max_priority=3),
]
app.conf.task_acks_late  # reads them
app.conf.broker_transport_options = {"visibility_timeout": 3600}
app.conf.task_routes = {"foreign.keeps": {"queue": "nobody"}}
@app.task(name="foreign.forgets", acks_on_failure=True, acks_on_timeout=True)
def forgets(): pass
@app.task(name="foreign.outlasts", time_limit=7200, soft_time_limit=7100)
def outlasts(): pass
@app.task(name="foreign.keeps", time_limit=30)
def keeps(): pass
"""
WORKER = "celery --app=foreign worker --concurrency=1 --queues=foreign,ranked --without-gossip --without-mingle"
PROMISES = {
    "task_acks_on_failure": False,
    "task_acks_on_timeout": False,
    "task_time_limit": 540,
    "task_soft_time_limit": 510,
    "task_default_queue_type": "quorum",
    "task_queue_max_priority": None,
    "worker_pool": "prefork",
    "broker_transport_options": {"confirm_publish": True},
    "task_always_eager": False,
}
FAULTS = {
    "the task foreign.forgets sets acks_on_failure=True",
    "the task foreign.forgets sets acks_on_timeout=True",
    "the task foreign.outlasts sets time_limit=7200",
    "the task foreign.outlasts sets soft_time_limit=7100",
    "the queue foreign is classic",
    "the queue ranked declares 3 priorities",
    "broker_transport_options is {'visibility_timeout': 3600}",
    "task_routes sends jobs to the queue nobody",
}


@pytest.fixture
def foreign(host, inputs) -> Iterator:
    """Starts a worker of the foreign application with further arguments and returns the module's message. None: its clients."""
    user, name = inputs["application_user"], inputs["application_name"]
    run = f"{FOLDER}/run"
    host.check_output("install -d -o %s %s", user, FOLDER)
    host.check_output("printf %%s %s > %s", APP, f"{FOLDER}/foreign.py")
    host.check_output("printf %%s %s > %s", f'#!/bin/sh\ncd {FOLDER} && exec /opt/{name}/current/run "$@"\n', run)
    host.check_output("chmod 755 %s", run)

    def check(arguments: str | None) -> str:
        parameters = {
            "run": run,
            "user": user,
            "app": "foreign",
            "promises": PROMISES,
            "queues": ["newsroom", "foreign", "ranked"],
        }
        if arguments is None:
            parameters["client"] = "foreign:app"
        else:
            host.check_output(STOP)
            line = f"exec runuser -u {user} -- {run} {WORKER} --hostname=foreign@here {arguments} >{FOLDER}/log 2>&1"
            host.check_output("systemd-run --quiet --collect --unit=%s sh -c %s", UNIT, line)
            parameters |= {"nodes": ["foreign@here"], "logs": [f"{FOLDER}/log"]}
        return host.ansible("grunnfjell.platform.celery_promises", json.dumps(parameters), check=False)["msg"]

    yield check
    host.run(
        f"{STOP}; rabbitmqctl -q delete_queue -p {name} foreign; rabbitmqctl -q delete_queue -p {name} ranked; rm -r {FOLDER}"
    )


def test_an_application_that_breaks_the_promise_is_refused_with_every_reason(foreign):
    """Review findings 6 and 7. All of it passed the gate."""
    message = foreign("")
    assert {fault for fault in FAULTS if fault not in message} == set(), message
    assert message.count("  * ") == len(FAULTS), message
    assert "its pool is celery.concurrency.thread:TaskPool" in foreign("--pool=threads")
    message = foreign("--time-limit=7200 --soft-time-limit=7100")
    assert "its pool kills a task after 7200.0 s (time_limit)" in message, message
    assert "after 7100.0 s (soft_time_limit)" in message, message


def test_a_classic_queue_keeps_dead_letters_and_is_shown_by_the_broker(host, inputs, foreign):
    """The review of two real applications: both said that all is well."""
    foreign("")
    letters = host.ansible("grunnfjell.platform.rabbitmq_dead_letters", check=False)
    assert [(fault["queue"], fault["type"]) for fault in letters["without"]] == [("foreign", "classic"), ("ranked", "classic")]
    assert "a job that kills its process runs in" in letters["without"][1]["text"]
    status = host.ansible("grunnfjell.platform.platform_status", check=False)["sections"]["broker"]
    targets = {queue["name"]: (queue["type"], queue["dead_letters_to"]) for queue in status["queues"]}
    assert (targets["foreign"], targets[inputs["application_name"]]) == (("classic", "dead_letters"), ("quorum", "dead_letters"))


def test_a_client_that_publishes_without_confirms_is_refused(foreign):
    """Review finding 7. Producers were never checked."""
    message = foreign(None)
    assert "the web process (foreign): broker_transport_options is {'visibility_timeout': 3600}" in message
    assert "task_routes sends jobs to the queue nobody" in message
    assert "the web process (foreign): the queue foreign is classic" in message
    assert "the web process (foreign): the queue ranked declares 3 priorities" in message
    assert {fault for fault in FAULTS if fault not in message} == set(), "a client is judged by its tasks too"
    assert message.count("  * ") == len(FAULTS), message
