"""Queues, dead letters, and jobs that survive a restart."""

from __future__ import annotations

import json
import secrets
import time

import pytest
from amqp_probe import Refused
from deadline import until
from queue_probe import dead_letter, take_job

testinfra_hosts = ["ansible://rabbitmq"]


@pytest.fixture
def reader(ctl, connect, application):
    """A user that may read the dead letters, as no application may; for one test, because a run would delete it too."""
    name, password = f"reader-{secrets.token_hex(4)}", secrets.token_hex(16)
    ctl("add_user", name, password)
    try:
        ctl("set_permissions", "-p", application["vhost"], name, "", "", "^dead_letters$")
        with connect(name, password, application["vhost"]) as connection:
            yield connection
    finally:
        ctl("delete_user", name)


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.parametrize("attempt", [lambda c: c.get("dead_letters"), lambda c: c.delete("dead_letters")], ids=["read", "delete"])
def test_the_application_cannot_read_or_delete_its_dead_letters(connect, application, attempt):
    with connect(**application) as connection, pytest.raises(Refused, match="ACCESS_REFUSED"):
        attempt(connection)


@pytest.mark.disruptive
@pytest.mark.usefixtures("session")
def test_a_work_queue_is_durable_and_under_the_delivery_limit(ctl, application, inputs, queue):
    queues = ctl("list_queues", "-p", application["vhost"], "name", "type", "durable", "policy", parse=True)
    (row,) = [row for row in queues if row["name"] == queue]
    assert (row["type"], row["durable"], row["policy"]) == ("quorum", True, "work")
    policies = ctl("list_policies", "-p", application["vhost"], parse=True)
    (policy,) = [policy for policy in policies if policy["name"] == "work"]
    definition = policy["definition"] if isinstance(policy["definition"], dict) else json.loads(policy["definition"])
    assert definition["delivery-limit"] == inputs["rabbitmq_delivery_limit"]


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.parametrize("name", ["celery_delayed_{}", "{}.celery.pidbox"])
def test_celery_s_internal_queues_are_allowed_and_not_under_the_policy(connect, application, ctl, queue, name):
    queue = name.format(queue)
    with connect(**application) as connection:
        connection.declare(queue, **{"x-queue-type": "quorum"})
    try:
        queues = ctl("list_queues", "-p", application["vhost"], "name", "policy", parse=True)
        assert [row["policy"] for row in queues if row["name"] == queue] == [""]
    finally:
        with connect(**application) as connection:
            connection.delete(queue)


@pytest.mark.once
@pytest.mark.disruptive
def test_a_job_that_fails_too_often_ends_in_the_dead_letters_and_is_not_lost(session, queue, reader, inputs):
    body = f"poison {secrets.token_hex(8)}"
    assert session.publish(queue, body) == "ack"
    deliveries = 0
    # A job that was put back returns a moment later, and is a dead letter after one delivery more than the limit.
    deadline = time.monotonic() + 60
    while deliveries <= inputs["rabbitmq_delivery_limit"] and time.monotonic() < deadline:
        if (delivery := session.get(queue)) is not None:
            session.put_back(delivery[0])
            deliveries += 1
    assert deliveries == inputs["rabbitmq_delivery_limit"] + 1
    assert dead_letter(reader, body), "the job is in no queue"


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.parametrize("arguments", [{}, {"x-max-priority": 3}], ids=["classic", "priorities"])
def test_a_rejected_job_of_a_classic_queue_is_a_dead_letter_with_its_reason(
    host, connect, application, ctl, queue, reader, arguments
):
    body = f"rejected {secrets.token_hex(8)}"
    with connect(**application) as connection:
        connection.declare(queue, **arguments)
        try:
            rows = ctl("list_queues", "-p", application["vhost"], "name", "type", "policy", parse=True)
            assert [(row["type"], row["policy"]) for row in rows if row["name"] == queue] == [("classic", "work_classic")]
            question = json.dumps({"vhost": application["vhost"], "names": [queue]})
            (sentence,) = host.ansible("grunnfjell.platform.rabbitmq_queues", question, check=False)["sentences"]
            assert f"a job that kills its process runs in {application['vhost']}/{queue} for ever" in sentence
            assert connection.publish(queue, body) == "ack"
            tag, _ = until("the job", lambda: connection.get(queue))
            connection.reject(tag)
            assert dead_letter(reader, body, keep=True), "the job is in no queue"
            listed = host.ansible("grunnfjell.platform.rabbitmq_dead_letters", "limit=1000", check=False)
            assert [letter["reason"] for letter in listed["letters"] if letter["queue"] == queue] == ["rejected"]
            assert dead_letter(reader, body)
        finally:
            connection.delete(queue)


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.parametrize("name", ["{}.4ea6a4e4-1c7c-3d7a-9d5c-0a4b6a6b2f0e", "{}.celery.pidbox"], ids=["reply", "pidbox"])
def test_a_classic_queue_of_one_process_is_under_no_policy(connect, application, ctl, queue, name):
    queue = name.format(queue)
    with connect(**application) as connection:
        connection.declare(queue)
        try:
            rows = ctl("list_queues", "-p", application["vhost"], "name", "policy", parse=True)
            assert [row["policy"] for row in rows if row["name"] == queue] == [""]
        finally:
            connection.delete(queue)


@pytest.mark.once
@pytest.mark.disruptive
def test_a_dead_letter_can_be_read_any_number_of_times(session, queue, reader, inputs):
    body = f"poison {secrets.token_hex(8)}"
    session.publish(queue, body)
    for _ in range(inputs["rabbitmq_delivery_limit"] + 1):
        session.put_back(until("another delivery", lambda: session.get(queue))[0])
    # More often than the default delivery limit of RabbitMQ 4 (20).
    for _ in range(25):
        assert dead_letter(reader, body, keep=True), "the dead letter vanished while it was read"
    assert dead_letter(reader, body)


@pytest.mark.disruptive
@pytest.mark.parametrize(
    "command", ["systemctl restart rabbitmq-server", "systemctl kill --signal=KILL rabbitmq-server"], ids=["restart", "kill"]
)
@pytest.mark.once
def test_a_queue_and_its_job_survive_a_restart_of_the_broker(session, queue, host, connect, application, command):
    # The broker writes the name of a new queue to disk seconds later; killed before that, it forgets the queue.
    names = "find /var/lib/rabbitmq/mnesia -path '*/quorum/*' -name names.dets -exec grep --quiet --text {} {{}} +"
    until("the queue's name on the disk", lambda: host.run(names.format(queue)).rc == 0)
    body = f"durable {secrets.token_hex(8)}"
    assert session.publish(queue, body) == "ack"
    show = "systemctl show --property=InvocationID --value rabbitmq-server"
    before = host.check_output(show)
    host.check_output(command)
    until("a new start of the broker", lambda: host.check_output(show) != before)
    assert take_job(connect, application, queue) == body
