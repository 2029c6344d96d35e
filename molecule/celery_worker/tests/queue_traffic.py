"""Jobs of a queue that a test declares, numbered. Runs in the application's environment on a worker's host.

queue_traffic declare QUEUE [TYPE]     a durable classic queue, bound to an exchange of its name, of this type or direct
queue_traffic publish QUEUE FIRST LAST by the exchange and by the queue's name in turn, each confirmed
queue_traffic load QUEUE FIRST STOP    20 a second until the file STOP exists; prints the number after the last confirmed one, and
                                       for how many seconds the slowest publish waited
queue_traffic take QUEUE               prints the numbers of all jobs, in their order, and acknowledges them
"""

import itertools
import json
import os
import sys
import time

import grunnfjell_settings as conf
from kombu import Connection, Exchange, Queue

command, name, *rest = sys.argv[1:]
exchange = Exchange(name, type=rest[0] if command == "declare" and rest else "direct")
options = {**conf.broker_transport_options, "read_timeout": 20, "write_timeout": 20}


def publish(connection, numbers):
    producer = connection.Producer()
    for number in numbers:
        where = exchange if number % 2 else ""
        producer.publish({"number": number}, exchange=where, routing_key=name, delivery_mode=2, serializer="json")
        yield number


with Connection(conf.broker_url, ssl=conf.broker_use_ssl, transport_options=options) as connection:
    channel = connection.channel()
    if command == "declare":
        Queue(name, exchange, routing_key=name, queue_arguments={"x-queue-type": "classic"})(channel).declare()
    elif command == "publish":
        print(sum(1 for _ in publish(connection, range(int(rest[0]), int(rest[1])))))
    elif command == "load":
        following, longest, began = int(rest[0]), 0.0, time.monotonic()
        for number in publish(connection, itertools.count(following)):
            following, longest = number + 1, max(longest, time.monotonic() - began)
            if os.path.exists(rest[1]):
                break
            time.sleep(0.05)  # 20 jobs a second; the file STOP ends them
            began = time.monotonic()
        print(json.dumps({"following": following, "longest_s": longest}))
    else:
        numbers = []
        while (message := channel.basic_get(name)) is not None:
            numbers.append(json.loads(message.body)["number"])
            channel.basic_ack(message.delivery_tag)
        print(json.dumps(numbers))
