#!/usr/bin/python3
"""Whether the broker accepts and confirms an application's message at this moment. Argument: seconds to wait.

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


def probe(patience: float) -> dict[str, Any]:
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
            channel = wire.channel()
            channel.queue_declare(conf.task_default_queue, passive=True)
            stage = f"the exchange {conf.task_default_exchange} accepts no message"
            channel.tx_select()
            channel.basic_publish(Message(b"", delivery_mode=2), conf.task_default_exchange, conf.task_default_routing_key)
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
    print(json.dumps(probe(float(sys.argv[1]))))
    sys.stdout.flush()
    os._exit(0)  # without the client's shutdown, which may wait
