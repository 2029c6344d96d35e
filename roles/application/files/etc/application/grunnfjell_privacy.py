"""Managed by Grunnfjell. Keeps a task's arguments out of message headers, events and logs.

Celery writes a task's arguments, as text, into the headers of each message (argsrepr, kwargsrepr), and from there into events and
logs. A task's log lines and exceptions often contain them too. With this module

* both headers are [redacted], in sent and in received messages;
* log lines about a task, with their tracebacks, lose every value of its arguments.

The body of the message is unchanged: a worker needs it. The task's name and id stay visible. Not redacted are values shorter than
three characters, parts of a value, and lines of threads or programs that the task started: these are up to the application.

`task_arguments_redacted = False` switches it off. `leaks` lets the platform check each live worker.
"""

import json
import logging
import re
import threading
from contextlib import contextmanager
from functools import wraps

from celery._state import _task_stack, get_current_task
from celery.app.amqp import AMQP
from celery.app.defaults import DEFAULTS

REDACTED = "[redacted]"
SETTING = "task_arguments_redacted"
SHORTEST, PLAIN = 3, 8  # a value shorter than PLAIN matches whole words only
MOST = 500  # values per task
CANARY = "grunnfjell-canary-4711"

_about = threading.local()  # the request that the worker's main process is logging about


def switched_on(app):
    return bool(app.conf.get(SETTING, True))


# --- Patterns -------------------------------------------------------------------------------------------------------------


def values(argument, depth=6):
    """The texts and numbers in an argument."""
    if isinstance(argument, bool) or argument is None or not depth:
        return
    if isinstance(argument, str):
        yield argument
    elif isinstance(argument, bytes):
        yield argument.decode(errors="replace")
    elif isinstance(argument, dict):
        for item in argument.values():
            yield from values(item, depth - 1)
    elif isinstance(argument, (list, tuple, set, frozenset)):
        for item in argument:
            yield from values(item, depth - 1)
    else:
        yield str(argument)


def pattern(args, kwargs, but=()):
    """A pattern for all values, in every form in which a log writes them; None without values."""
    patterns = {}
    for value in values([args, kwargs]):
        if len(value) < SHORTEST or value in but or len(patterns) >= MOST:
            continue
        for text in (value, repr(value)[1:-1], json.dumps(value)[1:-1]):
            patterns[text] = re.escape(text) if len(text) >= PLAIN else rf"(?<!\w){re.escape(text)}(?!\w)"
    return re.compile("|".join(patterns[text] for text in sorted(patterns, key=len, reverse=True))) if patterns else None


def own_names(request):
    """Names of the job, which stay visible."""
    return {str(getattr(request, key, None)) for key in ("id", "root_id", "parent_id", "task", "name")}


def of_request(request):
    """The pattern of a running task's request, compiled once."""
    known = request.__dict__
    if "_grunnfjell" not in known:
        known["_grunnfjell"] = pattern(request.args, request.kwargs, own_names(request))
    return known["_grunnfjell"]


def current():
    """The pattern of the task that this line is about."""
    task = get_current_task()
    if task is not None and switched_on(task.app):
        return of_request(task.request)
    request = getattr(_about, "request", None)
    if request is None or not switched_on(request._app):
        return None
    try:
        return pattern(request.args, request.kwargs, own_names(request))
    except Exception:  # an unreadable body has no values
        return None


def scrub(text, what):
    return what.sub(REDACTED, text)


# --- Logs -----------------------------------------------------------------------------------------------------------------


def scrubbed(record, what):
    """The record without the values: its message, its traceback and its extra attributes."""
    record.msg, record.args = scrub(record.getMessage(), what), None
    if record.exc_info:
        record.exc_text = scrub(logging.Formatter().formatException(record.exc_info), what)
    for key, value in vars(record).items():
        if key not in ("msg", "exc_text", "name", "process", "thread"):
            if isinstance(value, str):
                setattr(record, key, scrub(value, what))
            elif isinstance(value, dict):
                setattr(record, key, {name: scrub(item, what) if isinstance(item, str) else item for name, item in value.items()})
    return record


def _quiet_logs():
    make = logging.Logger.makeRecord

    @wraps(make)
    def make_record(self, *args, **kwargs):
        record = make(self, *args, **kwargs)
        try:
            what = current()
            return scrubbed(record, what) if what is not None else record
        except Exception as error:  # drop the text of a line that cannot be redacted
            text = f"{REDACTED} ({type(error).__name__} while redacting)"
            return make(self, record.name, record.levelno, record.pathname, record.lineno, text, (), None)

    logging.Logger.makeRecord = make_record


# --- Messages -------------------------------------------------------------------------------------------------------------


def _quiet_messages():
    for name in ("as_task_v1", "as_task_v2"):
        original = getattr(AMQP, name)

        @wraps(original)
        def as_task(self, *args, _original=original, **kwargs):
            message = _original(self, *args, **kwargs)
            if switched_on(self.app):
                if "argsrepr" in message.headers:
                    message.headers.update(argsrepr=REDACTED, kwargsrepr=REDACTED)
                if message.sent_event:
                    message.sent_event.update(args=REDACTED, kwargs=REDACTED)
            return message

        setattr(AMQP, name, as_task)


# --- The worker -----------------------------------------------------------------------------------------------------------


@contextmanager
def about(request):
    """Logs and events inside this context are about this request."""
    before, _about.request = getattr(_about, "request", None), request
    try:
        yield
    finally:
        _about.request = before


def _quiet_requests():
    from celery.worker.request import Request

    init, info, send_event = Request.__init__, Request.info, Request.send_event

    @wraps(init)
    def quiet_init(self, *args, **kwargs):
        init(self, *args, **kwargs)
        if switched_on(self._app):
            self._argsrepr = self._kwargsrepr = REDACTED
            self._request_dict.update(argsrepr=REDACTED, kwargsrepr=REDACTED)  # passed to the pool's process

    @wraps(info)
    def quiet_info(self, safe=False):
        return info(self, safe=safe or switched_on(self._app))

    @wraps(send_event)
    def quiet_event(self, type, **fields):
        if self._eventer and self._eventer.enabled:
            with about(self):
                if (what := current()) is not None:
                    fields = {key: scrub(value, what) if isinstance(value, str) else value for key, value in fields.items()}
        return send_event(self, type, **fields)

    Request.__init__, Request.info, Request.send_event = quiet_init, quiet_info, quiet_event
    for name in ("on_failure", "on_retry", "on_timeout"):
        original = getattr(Request, name)

        @wraps(original)
        def speaking(self, *args, _original=original, **kwargs):
            with about(self):
                return _original(self, *args, **kwargs)

        setattr(Request, name, speaking)


def _quiet_consumer():
    """Logs only the size of messages that are not tasks of this worker or cannot be read, and no message in the pool's lines."""
    from celery.concurrency import base
    from celery.worker.consumer import consumer

    def dump_body(message, body):
        return f"{REDACTED} ({len(message.body)}b)"

    consumer.dump_body = dump_body
    base.safe_repr = lambda _: REDACTED  # at level DEBUG the pool logs each message in full
    for name in ("on_unknown_message", "on_unknown_task", "on_invalid_task"):
        original = getattr(consumer.Consumer, name)

        @wraps(original)
        def quiet(self, *args, _original=original, **kwargs):
            for headers in (getattr(argument, "headers", None) for argument in args):
                if isinstance(headers, dict) and "argsrepr" in headers:
                    headers.update(argsrepr=REDACTED, kwargsrepr=REDACTED)
            return _original(self, *args, **kwargs)

        setattr(consumer.Consumer, name, quiet)


# --- Self-test ------------------------------------------------------------------------------------------------------------


def leaks(app):
    """Places where a task's arguments would appear in this process, tested with a canary; empty if none."""
    if not switched_on(app):
        return [f"{SETTING} is switched off"]
    places = []
    args, kwargs = (CANARY,), {"who": [{"name": CANARY}]}
    sent = app.amqp.create_task_message("id", "task", args=args, kwargs=kwargs, create_sent_event=True)
    if CANARY in f"{sent.headers} {sent.sent_event}":
        places.append("the headers of a message that is sent")
    for task in app.tasks.values():
        if not task.name.startswith("celery."):
            break
    try:
        for cls in {task_class.Request for task_class in app.tasks.values()}:
            if CANARY in received(app, task, cls):
                places.append(f"what is logged of a received message ({cls})")
        if CANARY in logged(app, task, args, kwargs):
            places.append("a line that a task logs")
    except Exception as error:
        places.append(f"{type(error).__name__}: {error}")
    return sorted(set(places))


def received(app, task, cls):
    """Text that the worker logs about a message whose sender did not redact."""
    from kombu import Message
    from kombu.utils.imports import symbol_by_name

    headers = {"id": "id", "task": task.name, "argsrepr": CANARY, "kwargsrepr": CANARY}
    body = json.dumps([[CANARY], {}, {}])
    message = Message(body=body, headers=headers, content_type="application/json", content_encoding="utf-8")
    request = symbol_by_name(cls)(message, app=app, task=task)
    return f"{request!r} {request.info()} {request.argsrepr} {request._request_dict.get('argsrepr')}"


def logged(app, task, args, kwargs):
    """A line and an exception that a task logs, as formatted."""
    _task_stack.push(task)
    task.push_request(id="id", args=args, kwargs=kwargs)
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        exc_info = (type(error), error, error.__traceback__)
        texts = []
        for name in (None, "celery.task", task.__module__):
            logger = logging.getLogger(name)
            record = logger.makeRecord(
                logger.name, logging.ERROR, __file__, 0, "%s", (CANARY,), exc_info, extra={"data": {"x": CANARY}}
            )
            texts += [handler.format(record) for handler in logger.handlers] + [
                logging.Formatter().format(record),
                str(vars(record)["data"]),
            ]
        return " ".join(texts)
    finally:
        task.pop_request()
        _task_stack.pop()


_done = set()


def install():
    """Called in every process of the application when it reads its settings."""
    if "everywhere" not in _done:
        _done.add("everywhere")
        DEFAULTS.setdefault(SETTING, True)  # so Celery accepts it as a setting
        _quiet_messages()
        _quiet_logs()


def install_worker():
    """Called in a worker before its pool starts."""
    install()
    if "worker" not in _done:
        _done.add("worker")
        _quiet_requests()
        _quiet_consumer()
        from celery.worker.control import inspect_command

        @inspect_command(name="grunnfjell_leaks")
        def grunnfjell_leaks(state):
            return {"leaks": leaks(state.app)}
