#!/usr/bin/python3
"""Whether the broker accepts and confirms an application's message at this moment.

Arguments: seconds to wait, and the Celery application as celery -A takes it.

Runs on the producer's host with the application's environment and credentials. A transaction that is rolled back shows that the
application's exchange accepts a message from here. A message to a queue that does not exist shows that the broker confirms.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import uuid
from typing import Any


def default_queue(channel: Any, conf: Any, app: str) -> tuple[Any, str, str]:
    """A channel, and exchange and routing key of a job without a route. Another queue than the platform's is in the code only."""
    from amqp.exceptions import NotFound

    try:
        channel.queue_declare(conf.task_default_queue, passive=True)
        return channel, conf.task_default_exchange, conf.task_default_routing_key
    except NotFound:
        from celery.app.utils import find_app

        own = find_app(app)
        name = own.conf.task_default_queue
        if name == conf.task_default_queue:
            raise
        queue = own.amqp.queues[name]
        channel = channel.connection.channel()
        channel.queue_declare(name, passive=True)
        return channel, queue.exchange.name, queue.routing_key


def probe(patience: float, app: str) -> dict[str, Any]:
    conf = importlib.import_module(os.environ["CELERY_CONFIG_MODULE"])
    # Installed with the application, not with Ansible.
    from amqp import Message
    from kombu import Connection

    options = {
        **getattr(conf, "broker_transport_options", {}),
        "read_timeout": patience,
        "write_timeout": patience,
        "confirm_publish": False,
    }
    stage = "no connection to the broker"
    try:
        with Connection(
            conf.broker_url,
            connect_timeout=patience,
            transport_options=options,
            heartbeat=0,
            ssl=getattr(conf, "broker_use_ssl", None) or False,
            login_method=getattr(conf, "broker_login_method", None),
        ) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=patience)
            wire = connection.connection
            stage = f"the queue {conf.task_default_queue} cannot be reached"
            channel, exchange, routing_key = default_queue(wire.channel(), conf, app)
            stage = f"the exchange {exchange} accepts no message"
            channel.tx_select()
            channel.basic_publish(Message(b"", delivery_mode=2), exchange, routing_key)
            channel.tx_rollback()
            stage = "the broker confirms nothing"
            channel = wire.channel()
            channel.confirm_select()
            absent = f"grunnfjell-status-{uuid.uuid4()}"
            message = Message(b"", delivery_mode=2)
            channel.basic_publish_confirm(message, "", absent, timeout=patience, confirm_timeout=patience)
        return {"confirmed": True}
    except TimeoutError:
        return {"confirmed": False, "error": f"{stage}: no answer within {patience:g} s"}
    except Exception as error:
        return {"confirmed": False, "error": f"{stage}: {str(error) or type(error).__name__}"}


if __name__ == "__main__":
    print(json.dumps(probe(float(sys.argv[1]), sys.argv[2])))
    sys.stdout.flush()
    os._exit(0)  # without the client's shutdown, which may wait
