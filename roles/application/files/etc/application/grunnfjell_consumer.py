"""Managed by Grunnfjell. Celery's consumer, with three differences.

It tries to reconnect once a second. Celery waits 2, 4, 6 … 30 s between two attempts, and no setting changes that: after an
outage of two minutes, the fleet is idle for up to half a minute longer. An attempt at a closed port costs nothing, so a constant
second is right. The interval is random per worker, so a fleet does not reconnect in one instant.

It rejects a message that it cannot read, and the broker keeps it as a dead letter. Celery acknowledges such a message, which
deletes it, or crashes. The message need not be broken: a release that registers a type with kombu and is rolled back leaves jobs
that only the newer release can decode.

It replaces a control queue that its predecessor declared otherwise, as in a fleet that grows to a cluster. The broker keeps that
queue for ten seconds, and a worker that starts within them would exit with 406.
"""

import random
from functools import partial

import grunnfjell_privacy
from amqp.exceptions import PreconditionFailed
from celery.utils.log import get_logger
from celery.worker import consumer

grunnfjell_privacy.install_worker()

MEAN_S, SPREAD_S = 1.0, 0.5
# Raised by a message whose headers or body are not those of a task.
MALFORMED = (AttributeError, LookupError, TypeError, ValueError)

log = get_logger(__name__)


class Consumer(consumer.Consumer):
    def ensure_connected(self, conn):
        wait_s = random.uniform(MEAN_S - SPREAD_S, MEAN_S + SPREAD_S)
        conn.ensure_connection = partial(conn.ensure_connection, interval_start=wait_s, interval_step=0, interval_max=wait_s)
        connected = super().ensure_connected(conn)
        if self.app.conf.worker_enable_remote_control:
            self.declare_control_queue(connected)
        return connected

    def declare_control_queue(self, connection):
        declared = self.app.control.mailbox.get_queue(self.hostname)
        try:
            with connection.channel() as channel:
                declared(channel).queue_declare()
        except PreconditionFailed:
            log.warning("The queue %s was declared otherwise: it is replaced.", declared.name)
            with connection.channel() as channel:
                declared(channel).delete(if_unused=True)

    def create_task_handler(self, *args, **kwargs):
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message):
            try:
                return handle(message)
            except (*self.connection_errors, *self.channel_errors):
                raise
            except MALFORMED as error:
                if message.acknowledged:
                    raise
                return self.on_decode_error(message, error)

        return on_task_received

    def on_decode_error(self, message, exc):
        self.log_refusal(message, "it cannot be decoded", exc)
        message.reject_log_error(log, self.connection_errors)

    def on_unknown_message(self, body, message):
        self.log_refusal(message, "it is not a task's message")
        super().on_unknown_message(body, message)

    def on_unknown_task(self, body, message, exc):
        self.log_refusal(message, "this worker does not know the task")
        super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body, message, exc):
        self.log_refusal(message, "its message is malformed", exc)
        super().on_invalid_task(body, message, exc)

    def log_refusal(self, message, why, error=None):
        """One line that `make dead-letters` finds by the job's id (plugins/modules/dead_letter_causes.py)."""
        headers = message.headers if isinstance(message.headers, dict) else {}
        name, job = ("".join(str(headers.get(key)).split())[:200] for key in ("task", "id"))
        # The text of such an error may hold the whole body.
        shown = type(error).__name__ if grunnfjell_privacy.switched_on(self.app) else repr(error)
        log.critical("Task %s[%s] was refused: %s%s", name, job, why, "" if error is None else f" ({shown})")
