"""What happens to a message that no worker can take, on live workers and their broker."""

from __future__ import annotations

import json
import pickle
import uuid

import pytest
from deadline import until

testinfra_hosts = ["ansible://rabbitmq"]

# Random, because the logs keep what an earlier run of this test wrote.
SECRET = f"Kari Nordmann {uuid.uuid4()}"
TASK = "newsroom.tasks.transcode"
# Publishes to the application's queue as the application does, with any headers and body.
PUBLISH = """
import json, sys
import grunnfjell_settings as conf
from kombu import Connection
how = {"ssl": conf.broker_use_ssl, "transport_options": conf.broker_transport_options}
with Connection(conf.broker_url, **how) as connection:
    for headers, body, content_type in json.loads(sys.argv[1]):
        connection.Producer().publish(
            body, exchange="", routing_key=conf.task_default_queue, headers=headers, delivery_mode=2,
            content_type=content_type, content_encoding="utf-8",
        )
"""
PIDS = "supervisorctl pid celery-worker slow"
BODY = json.dumps([[SECRET], {}, {}])
JSON, PICKLE = "application/json", "application/x-python-serialize"
# Protocol 0 is text.
PICKLED = pickle.dumps([[SECRET], {}, {}], protocol=0).decode()
# The fault of a message: its task, its body and its content type, and what the worker reports.
REFUSED = {
    "a type that this release does not know": (
        TASK, json.dumps([[{"__type__": "money", "__value__": SECRET}], {}, {}]), JSON, "cannot be decoded"
    ),
    "broken JSON": (TASK, BODY[:-9], JSON, "cannot be decoded"),
    "a body that is a number": (TASK, "4711", JSON, "cannot be decoded"),
    "a task that no worker knows": ("newsroom.nobody", BODY, JSON, "does not know the task"),
    # Reading a pickle runs what it names: accept_content leaves it out.
    "a pickle": (TASK, PICKLED, PICKLE, "its message is malformed"),
}  # fmt: skip
WITHOUT_ID = ({"task": TASK}, BODY, JSON)


@pytest.fixture
def workers(fleet, fleet_inputs) -> list:
    """Every host that consumes the queue; any of them may get a message."""
    return [host for name, host in fleet.items() if "celery_worker_programs" in fleet_inputs[name]]


def letters(host, number: int) -> list[dict]:
    """The dead letters, once there are as many."""

    def look() -> list[dict]:
        dead = host.ansible("grunnfjell.platform.rabbitmq_dead_letters", check=False)["letters"]
        return dead if len(dead) >= number else []

    return until(f"{number} dead letters", look, 30)


def logs(worker, inputs) -> str:
    return worker.check_output("cat %s/*.err.log", inputs["celery_worker_log_directory"])


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.scenario
def test_an_unreadable_message_becomes_a_dead_letter_with_its_reason_and_the_worker_goes_on(host, workers, inputs):
    """Review finding 5. Celery acknowledges the first two, and dies of the third and of the one without an id."""
    vhost, run = inputs["application_name"], f"/opt/{inputs['application_name']}/current/run"
    assert host.ansible("grunnfjell.platform.rabbitmq_dead_letters", check=False)["totals"] == {vhost: 0}
    before = [worker.check_output(PIDS) for worker in workers]
    jobs = {str(uuid.uuid4()): case for case in REFUSED}
    messages = [({"id": job, "task": task}, *message) for job, (task, *message, _) in zip(jobs, REFUSED.values(), strict=True)]
    publish = ("runuser -u %s -- %s python -c %s %s", inputs["application_user"], run, PUBLISH)
    host.check_output(*publish, json.dumps([*messages, WITHOUT_ID]))
    try:
        dead = letters(host, len(messages) + 1)
        assert {letter["id"] for letter in dead} == {*jobs, None}
        assert {letter["reason"] for letter in dead} == {"rejected"}
        assert [worker.check_output(PIDS) for worker in workers] == before, "a worker died of a message"
        causes: dict[str, str] = {}
        for worker in workers:
            causes |= worker.ansible("grunnfjell.platform.dead_letter_causes", f"ids={','.join(jobs)}", check=False)["causes"]
            assert SECRET not in logs(worker, inputs)
        for job, case in jobs.items():
            assert REFUSED[case][-1] in causes[job], case
    finally:
        host.check_output(f"rabbitmqctl -q purge_queue -p {vhost} dead_letters")


# As a fleet of one broker declares it and one of three does not, or the other way round.
OTHERWISE = """
import sys
import grunnfjell_settings as conf
from kombu import Connection, Queue
how = {"ssl": conf.broker_use_ssl, "transport_options": conf.broker_transport_options}
with Connection(conf.broker_url, **how) as connection:
    channel = connection.channel()
    channel.queue_delete(sys.argv[1])
    Queue(sys.argv[1], durable=not conf.control_queue_durable, channel=channel).queue_declare()
"""


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.scenario
def test_a_worker_replaces_a_control_queue_that_was_declared_otherwise(host, workers, inputs):
    """Found by the drill: the first workers of a fleet that grew from one broker to three exited with 406."""
    vhost, run = inputs["application_name"], f"/opt/{inputs['application_name']}/current/run"
    worker, *_ = workers
    queue = f"celery-worker@{worker.check_output('hostname')}.celery.pidbox"

    def consumed() -> bool:
        listed = host.check_output(f"timeout 20 rabbitmqctl -q list_queues -p {vhost} name durable consumers")
        return [queue, "true", "1"] in [line.split() for line in listed.splitlines()]

    until("the worker's control queue", consumed, 30)
    worker.check_output("supervisorctl stop celery-worker:*")
    try:
        worker.check_output("runuser -u %s -- %s python -c %s %s", inputs["application_user"], run, OTHERWISE, queue)
    finally:
        worker.check_output("supervisorctl start celery-worker:*")
    until("the control queue as the worker declares it", consumed, 60)


# With a hole where a worker would be about to declare the next exchange: before, the broker confirmed this and dropped it.
WITH_A_HOLE = """
import sys
from celery.app.utils import find_app
from kombu.exceptions import OperationalError
app = find_app(sys.argv[1])
with app.connection_for_write() as connection, connection.channel() as channel, app.amqp.Producer(channel) as producer:
    channel.exchange_delete("celery_delayed_26")
    for _ in range(2):
        try:
            app.send_task("newsroom.nobody", producer=producer, countdown=1)
        except OperationalError as error:
            print(error)
    app.send_task("newsroom.nobody", producer=producer)
"""
DELAYED = """
import sys
from celery.app.utils import find_app
find_app(sys.argv[1]).send_task("newsroom.nobody", countdown=1)
"""


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.scenario
def test_a_job_that_no_queue_takes_is_refused_where_it_is_sent(host, workers, inputs):
    """Found by the drill: five delayed jobs were confirmed and dropped while a worker declared their queues on a new broker."""
    vhost, run = inputs["application_name"], f"/opt/{inputs['application_name']}/current/run"
    python = f"runuser -u {inputs['application_user']} -- {run} python -c %s {inputs['application_celery_app']}"
    try:
        refused = host.check_output(python, WITH_A_HOLE).splitlines()
        assert len(refused) == 2 and all("has no queue: exchange 'celery_delayed_27'" in line for line in refused), refused
        letters(host, 1)
        for worker in workers:
            worker.check_output("supervisorctl restart celery-worker:*")
        declared = f"rabbitmqctl -q list_bindings -p {vhost} source_name destination_name"
        until("the exchange again", lambda: "celery_delayed_27\tcelery_delayed_26" in host.check_output(declared), 60)
        host.check_output(python, DELAYED)
        assert len(letters(host, 2)) == 2
    finally:
        host.check_output(f"rabbitmqctl -q purge_queue -p {vhost} dead_letters")
