"""Managed by Grunnfjell. Lays the platform's settings over those of the application's Celery, without a line of its code.

* The application's settings stay, however it loads them: an object, Django's settings with a namespace, assignments.
* The platform's settings (grunnfjell_settings.py) win over them. A mapping of both, such as broker_transport_options, is merged.
* The names in grunnfjell_settings._defaults are for an application that sets none: the application's value wins.
* Each queue that the application declares becomes a quorum queue, unless it asks for another type, or for what only classic
  queues can do: priorities, one consumer, deletion with its last consumer.
* A task that no queue takes raises OperationalError where it is sent. Without `mandatory` the broker confirms such a message and
  drops it: while a worker declares the queues of delayed jobs on a new broker, for example.
* `app.config_from_envvar("CELERY_CONFIG_MODULE")`, which earlier versions needed, does nothing.

An application of another broker opts out: `Celery("partner", broker=..., changes={"broker_elsewhere": True})`.
"""

import os
from collections import ChainMap
from functools import wraps

import grunnfjell_settings
from celery.app.amqp import AMQP
from celery.app.utils import Settings, detect_settings
from kombu import Exchange, Queue
from kombu.common import Broadcast
from kombu.exceptions import OperationalError
from kombu.utils.functional import ChannelPromise

# A setting of a Celery application whose jobs another broker holds.
ELSEWHERE = "broker_elsewhere"
MODULE = "CELERY_CONFIG_MODULE"
TYPE, PRIORITIES = "x-queue-type", "x-max-priority"


# --- Settings -------------------------------------------------------------------------------------------------------------


def sets(settings, name):
    """Whether the application sets it, under any name that Celery knows. The last mapping holds Celery's defaults."""
    names = {name, *settings._to_keys(name), *(convert(name) for convert in settings._keys or ())}
    return any(key in mapping for mapping in settings.maps[:-1] for key in names)


def decided(settings):
    """The platform's defaults that the application decides, by setting them or what they follow from."""
    names = {name for name in grunnfjell_settings._defaults if sets(settings, name)}
    if "task_default_queue" in names:
        names |= {"task_default_exchange", "task_default_routing_key"} & set(grunnfjell_settings._defaults)
    if settings.result_backend:  # it wants results
        names |= {"task_ignore_result"} & set(grunnfjell_settings._defaults)
    return names


def over(settings):
    """The platform's values for an application with these settings."""
    values, left = {}, decided(settings)
    # Read at each use: if grunnfjell_settings is imported before Celery, this module is imported in the middle of it.
    platform = {name: value for name, value in vars(grunnfjell_settings).items() if not name.startswith("_")}
    for name, value in platform.items():
        given = settings.get(name)
        if isinstance(value, dict) and isinstance(given, dict):
            values[name] = {**value, **given} if name in left else {**given, **value}
        elif name not in left:
            values[name] = value
    return values


def without_environment(name):
    """The platform's broker, where Celery would prefer CELERY_BROKER_URL and the like in the environment."""
    theirs = getattr(Settings, name).fget
    return property(
        lambda settings: theirs(settings) if settings.get(ELSEWHERE) else settings.get(name) or settings.get("broker_url")
    )


def with_prefix(values, prefix):
    """The values as a namespace names them, e.g. CELERY_TASK_ACKS_LATE: before Celery 5.7 that name wins over task_acks_late."""
    return {(prefix + name).upper() if prefix.isupper() else prefix + name: value for name, value in values.items()}


# --- Queues ---------------------------------------------------------------------------------------------------------------


def keep_jobs(queue, priorities=None):
    """Makes a queue that the application declares count deliveries, keep dead letters and hold delayed jobs, where it can."""
    arguments = queue.queue_arguments or {}
    temporary = queue.exclusive or queue.auto_delete or not queue.durable or queue.no_declare
    if temporary or TYPE in arguments or PRIORITIES in arguments or queue.max_priority is not None or priorities is not None:
        return
    queue.queue_arguments = {**arguments, TYPE: "quorum"}
    if type(queue) is Queue and (queue.exchange is None or not queue.exchange.name or queue.exchange.type == "direct"):
        queue.__class__ = OwnQueue  # in place, since the application may name this object in a route
        queue.former, queue.former_key = queue.exchange, queue.routing_key
        # One word, since delayed delivery binds `#.key`: jobs of the queue `eu.mail` would also reach the queue `mail`.
        queue.exchange, queue.routing_key = Exchange(f"{queue.name}.topic", type="topic"), queue.name.replace(".", "%2E")


class OwnQueue(Queue):
    """A queue with its own topic exchange, which delayed delivery needs. Before, Celery addressed it by its name through a direct
    exchange, which several queues may share with the same key. Here too each job goes to one queue only, whatever its routing
    key; and an explicit publish to the former exchange still reaches the queue.
    """

    attrs = (*Queue.attrs, ("former", None), ("former_key", None))

    def queue_bind(self, nowait=False, channel=None):
        channel = channel or self.channel
        self.bind_to(self.exchange, "#", channel=channel, nowait=nowait)
        if self.former is not None and self.former.name and self.former_key:
            self.former.declare(channel=channel, nowait=nowait)
            self.bind_to(self.former, self.former_key, channel=channel, nowait=nowait)


def queues_class(queues):
    class Queues(queues):
        def _add(self, queue):
            keep_jobs(queue, self.max_priority)
            return super()._add(queue)

    return Queues


# --- Publishing -----------------------------------------------------------------------------------------------------------


def listening(channel):
    """The functions that a channel calls with what the broker returns."""
    return set() if isinstance(channel, ChannelPromise) else getattr(channel, "events", {}).setdefault("basic_return", set())


def raising(send, queues):
    """Celery's function that sends a task, which raises if no queue takes it. A broadcast may reach nobody."""

    @wraps(send)
    def send_task_message(producer, name, message, queue=None, **options):
        known = queues.get(queue) if isinstance(queue, str) else queue
        if isinstance(known, Broadcast) or producer.on_return:
            return send(producer, name, message, queue=queue, **options)
        returned = []

        def note(reason, exchange, routing_key, _):
            # Not raised here: the broker's confirm follows, and would be taken for that of the next message.
            returned.append(f"{name} has no queue: exchange '{exchange}', routing key '{routing_key}' ({reason})")

        producer.on_return = note  # for a channel that is opened meanwhile
        listening(producer._channel).add(note)
        try:
            sent = send(producer, name, message, queue=queue, **{"mandatory": True, **options})
        finally:
            producer.on_return = None
            listening(producer._channel).discard(note)
        if returned:
            raise OperationalError(returned[0])
        return sent

    return send_task_message


# --- Celery ---------------------------------------------------------------------------------------------------------------


def install(celery):
    """Called with the class Celery as soon as it exists."""
    prepare, load, make, sender = celery.prepare_config, celery.config_from_object, AMQP.Queues, AMQP._create_task_sender

    @wraps(prepare)
    def prepare_config(self, config):
        config = prepare(self, config)
        # An application without settings of its own: Celery read the platform's, by the name in CELERY_CONFIG_MODULE.
        config = {} if getattr(config, "obj", None) is grunnfjell_settings else config
        settings = detect_settings(config, self._preconf, ignore_keys=self._preconf_set_by_auto, prefix=self.namespace)
        if settings.get(ELSEWHERE):
            return config
        values = over(settings)
        self._preconf.update(values)
        return ChainMap(with_prefix(values, settings.prefix), config) if settings.prefix else config

    @wraps(load)
    def config_from_object(self, obj, *args, **kwargs):
        if obj is grunnfjell_settings or obj == os.environ.get(MODULE):
            return None
        return load(self, obj, *args, **kwargs)

    @wraps(make)
    def queues(self, *args, **kwargs):
        conf = self.app.conf
        if not conf.get(ELSEWHERE) and conf.task_default_queue_type == "quorum":
            self.queues_cls = queues_class(type(self).queues_cls)
        return make(self, *args, **kwargs)

    @wraps(sender)
    def create_task_sender(self):
        send = sender(self)
        return send if self.app.conf.get(ELSEWHERE) else raising(send, self.queues)

    for name in ("broker_url", "broker_read_url", "broker_write_url"):
        setattr(Settings, name, without_environment(name))
    celery.prepare_config, celery.config_from_object, AMQP.Queues = prepare_config, config_from_object, queues
    AMQP._create_task_sender = create_task_sender
