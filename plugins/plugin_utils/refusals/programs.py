"""Programs that cannot run, or not together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..fleet.model import Fleet, Host
from ..sizing.worker_options import log_name, queues_of, worker_options

# A name becomes supervisord's section, Celery's node and a log file; these characters are valid in all three.
PROGRAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Celery takes one text with commas between the queues.
QUEUE_NAME = re.compile(r"[^\s,]+")
LOG_SIZE = re.compile(r"[0-9]+(KB|MB|GB)?", re.IGNORECASE)
WSGI_APP = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_].*")
HIDDEN_QUEUES = "the kit would not know what it consumes. Take it out, and name the queues under the program's queues"
# gunicorn's, uvicorn's and hypercorn's, and the module for gunicorn that the kit had.
TLS_ARGUMENT = re.compile(r"--(ssl-|certfile|keyfile|ca-certs|cert-reqs|config=python:grunnfjell_tls)")
# Options of celery worker that no program may have.
NEVER = {
    "--purge": "each start would delete every waiting job. Take it out",
    "--beat": "each of its workers would send every scheduled task. Take it out, and set celery_worker_beat: true on one host",
    "--queues": HIDDEN_QUEUES,
    "--exclude-queues": HIDDEN_QUEUES,
    "--hostname": "the kit queries the worker by the program's name. Take it out",
    "--detach": "supervisord would lose track of it. Take it out",
}
# Options that override a setting of the promise, with the input that limits them.
LIMITS = {
    "--time-limit": ("task_time_limit", "application_time_limit"),
    "--soft-time-limit": ("task_soft_time_limit", "application_soft_time_limit"),
}
# Settings that route jobs. The application chooses them, but the kit refuses a queue without a worker.
DEFAULT_QUEUE, ROUTES, DECLARED = "task_default_queue", "task_routes", "task_queues"
PROCESSES = ("prefork", "processes")  # two names of the only pool that can end a task


def programs_of(host: Host) -> list[dict[str, Any]]:
    given = host.inputs.get("celery_worker_programs")
    return [program for program in given if isinstance(program, dict)] if isinstance(given, list) else []


def duplicate_programs(fleet: Fleet) -> Iterator[str]:
    for host in fleet.with_role("celery_worker"):
        given = host.inputs.get("celery_worker_programs")
        programs = programs_of(host)
        if given == []:
            yield (
                f"{host.name}: celery_worker_programs is empty, so the host would do nothing. "
                f"Name a program, or take {host.name} out of the group {fleet.groups_of('celery_worker')}."
            )
        names = [program.get("name") for program in programs]
        for name in sorted({str(name) for name in names if names.count(name) > 1}):
            yield f"{host.name}: celery_worker_programs names '{name}' twice. Give each program a different name."
        for program in programs:
            for queue in twice(program.get("queues")):
                yield f"{host.name}: the program '{program.get('name')}' names the queue '{queue}' twice. Take one out."
            concurrency = program.get("concurrency")
            if isinstance(concurrency, int) and concurrency < 1:
                yield (
                    f"{host.name}: the program '{program.get('name')}' has the concurrency {concurrency}, but needs at least 1. "
                    f"Raise it, or take the program out of celery_worker_programs."
                )
        for queue in twice(host.inputs.get("celery_worker_queues")):
            yield f"{host.name}: celery_worker_queues names the queue '{queue}' twice. Take one out."


def malformed_programs(fleet: Fleet) -> Iterator[str]:
    """Values that supervisord, Celery or gunicorn would refuse only after the run has changed the host."""
    for host in fleet.with_role("celery_worker"):
        for program in programs_of(host):
            name = str(program.get("name"))
            if not PROGRAM_NAME.fullmatch(name):
                yield (
                    f"{host.name}: celery_worker_programs names '{name}', but supervisord and Celery take only letters, digits, "
                    f"'.', '_' and '-' in a program's name. Rename it."
                )
            yield from malformed_queues(host, f"the program '{name}'", program.get("queues"))
        yield from malformed_queues(host, "celery_worker_queues", host.inputs.get("celery_worker_queues"))
        yield from malformed_size(host, "celery_worker_logfile_maxbytes")
    for host in fleet.with_role("producer"):
        yield from malformed_size(host, "producer_logfile_maxbytes")
        app = host.inputs.get("producer_wsgi_app")
        if isinstance(app, str) and not WSGI_APP.fullmatch(app):
            yield (
                f"{host.name}: producer_wsgi_app is '{app}', but must name a module and the application in it, "
                f"e.g. newsroom.web:app. Edit producer_wsgi_app."
            )
        yield from tls_arguments(host, "producer_command", host.inputs.get("producer_command"))


def tls_arguments(host: Host, source: str, command: object) -> Iterator[str]:
    """Options with which the web server would speak TLS, of inventories from before nginx was in front of it."""
    for argument in command if isinstance(command, list) else ():
        if TLS_ARGUMENT.match(str(argument)):
            yield (
                f"{host.name}: {source} has {argument}, but nginx serves HTTPS, and reaches the web server without TLS. "
                f"Take it out."
            )


def malformed_queues(host: Host, source: str, queues: object) -> Iterator[str]:
    for queue in queues if isinstance(queues, list) else ():
        if not QUEUE_NAME.fullmatch(str(queue)):
            yield (
                f"{host.name}: {source} names the queue '{queue}', but a queue's name cannot be empty or contain a comma or a "
                f"space: Celery would consume other queues. Name each queue as an item of the list."
            )


def malformed_size(host: Host, source: str) -> Iterator[str]:
    size = host.inputs.get(source)
    if size is not None and not LOG_SIZE.fullmatch(str(size)):
        yield (
            f"{host.name}: {source} is '{size}', but supervisord takes bytes, or a number with KB, MB or GB, e.g. 50MB. "
            f"Edit {source}."
        )


def twice(names: object) -> list[str]:
    return sorted({str(name) for name in names if names.count(name) > 1}) if isinstance(names, list) else []


def overriding_arguments(fleet: Fleet) -> Iterator[str]:
    """A worker's command line overrides its settings without a warning."""
    for host in fleet.with_role("celery_worker"):
        waived = host.inputs.get("application_waivers") or {}
        for program in programs_of(host):
            given = program.get("arguments")
            for option, value in worker_options(given if isinstance(given, list) else []):
                shown = f"{host.name}: the arguments of the program '{program.get('name')}' hold {option}"
                if option in NEVER:
                    yield f"{shown}: {NEVER[option]}."
                    continue
                setting, harm = overruled(host, option, value)
                if setting and setting not in waived:
                    yield (
                        f"{shown} {value}, but the promise needs {harm} ({setting}). Take it out, or waive {setting} with a "
                        f"reason in application_waivers."
                    )


def overruled(host: Host, option: str, value: str) -> tuple[str, str]:
    """The setting of the promise that the option breaks, and the value that the promise needs; empty when it breaks none."""
    if option == "--pool" and value not in PROCESSES:
        return "worker_pool", "prefork, since only processes can be killed at the time limits"
    if option == "--prefetch-multiplier" and value != "1":
        return "worker_prefetch_multiplier", "1"
    if option in LIMITS:
        setting, name = LIMITS[option]
        limit = host.number(name)
        try:
            fits = limit is None or 0 < float(value) <= limit
        except ValueError:
            fits = False
        return ("", "") if fits else (setting, f"more than 0 and at most {limit} s, {name}")
    return "", ""


def shared_logs(fleet: Fleet) -> Iterator[str]:
    """supervisord rotates a log for one program: two programs with one file would lose each other's lines."""
    for host in fleet.with_role("celery_worker"):
        names = [str(program.get("name")) for program in programs_of(host)]
        if host.inputs.get("celery_worker_beat") is True:
            names.append("celery-beat")
        writers: dict[str, list[str]] = {}
        for name in dict.fromkeys(names):
            for log in (f"{log_name(name)}.log", f"{log_name(name)}.err.log"):
                writers.setdefault(log, []).append(name)
        for first, second in dict.fromkeys((pair[0], pair[1]) for pair in writers.values() if len(pair) > 1):
            yield (
                f"{host.name}: the programs '{first}' and '{second}' would write to one log, since its name leaves out "
                f"'celery-'. Rename one of them in celery_worker_programs."
            )
        if names.count("celery-beat") > 1:
            yield f"{host.name}: celery_worker_programs names 'celery-beat', the name of celery_worker_beat's program. Rename it."


def unconsumed_queues(fleet: Fleet) -> Iterator[str]:
    """Queues that the inventory sends jobs to."""
    for name in fleet.applications:
        workers = fleet.of_application(name, "celery_worker")
        consumed = consumed_queues(workers)
        if not consumed:
            continue
        senders = {host.name: host for host in (*workers, *fleet.of_application(name, "producer"))}
        for host in senders.values():
            waived = host.inputs.get("application_waivers") or {}
            for queue, setting, why in queues_sent_to(host):
                if queue not in consumed and setting not in waived:
                    yield (
                        f"{host.name}: {why} sends jobs of '{name}' to the queue '{queue}', which no program of its workers "
                        f"consumes: they would wait forever. Add it to the queues of a program in celery_worker_programs, or "
                        f"name one of {', '.join(consumed)}, or waive {setting} with a reason in application_waivers."
                    )


def consumed_queues(workers: list[Host]) -> list[str]:
    """Includes those of drained hosts, which either come back or leave the inventory."""
    names: set[str] = set()
    for host in workers:
        usual, own = host.inputs.get("celery_worker_queues"), host.inputs.get("application_name")
        for program in programs_of(host):
            queues = queues_of(program, usual if isinstance(usual, list) else [], str(own))
            names |= {str(queue) for queue in queues} if isinstance(queues, list) and own else set()
    return sorted(names)


def queues_sent_to(host: Host) -> Iterator[tuple[str, str, str]]:
    """Queue, setting, and source of the route. Routes in the application's code are checked in its live processes."""
    given = host.inputs.get("application_celery_settings")
    settings = given if isinstance(given, dict) else {}
    if default := settings.get("task_default_queue"):
        yield str(default), DEFAULT_QUEUE, f"application_celery_settings.{DEFAULT_QUEUE}"
    elif own := host.inputs.get("application_name"):
        yield str(own), DEFAULT_QUEUE, f"{DEFAULT_QUEUE}, which is application_name unless application_celery_settings sets it,"
    routes = settings.get("task_routes") or {}
    for table in routes if isinstance(routes, list) else [routes]:
        for route in table.values() if isinstance(table, dict) else ():
            queue = route.get("queue") if isinstance(route, dict) else route
            if isinstance(queue, str):
                yield queue, ROUTES, f"application_celery_settings.{ROUTES}"
