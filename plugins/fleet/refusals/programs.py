"""Programs that cannot run side by side, or at all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fleet.model import Fleet, Host

# A name becomes supervisord's section, Celery's node and a log file, so it holds what all three take.
PROGRAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Celery takes one text with commas between the queues.
QUEUE_NAME = re.compile(r"[^\s,]+")
LOG_SIZE = re.compile(r"[0-9]+(KB|MB|GB)?", re.IGNORECASE)
WSGI_APP = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_].*")


def programs_twice(fleet: Fleet) -> Iterator[str]:
    for host in fleet.with_role("celery_worker"):
        given = host.inputs.get("celery_worker_programs")
        programs = [program for program in given if isinstance(program, dict)] if isinstance(given, list) else []
        if given == []:
            yield (
                f"{host.name}: celery_worker_programs is empty, so it would do nothing. "
                f"Name a program, or take {host.name} out of the group {fleet.groups_of('celery_worker')}."
            )
        names = [program.get("name") for program in programs]
        for name in sorted({str(name) for name in names if names.count(name) > 1}):
            yield f"{host.name}: celery_worker_programs names '{name}' twice. Give each program a name of its own."
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


def programs_malformed(fleet: Fleet) -> Iterator[str]:
    """Values that supervisord, Celery or gunicorn would refuse on the host, when the run has already changed it."""
    for host in fleet.with_role("celery_worker"):
        given = host.inputs.get("celery_worker_programs")
        for program in given if isinstance(given, list) else ():
            if not isinstance(program, dict):
                continue
            name = str(program.get("name"))
            if not PROGRAM_NAME.fullmatch(name):
                yield (
                    f"{host.name}: celery_worker_programs names '{name}', but supervisord and Celery take only letters, digits, "
                    f"'.', '_' and '-' in a program's name. Rename it."
                )
            yield from queues_malformed(host, f"the program '{name}'", program.get("queues"))
        yield from queues_malformed(host, "celery_worker_queues", host.inputs.get("celery_worker_queues"))
        yield from size_malformed(host, "celery_worker_logfile_maxbytes")
    for host in fleet.with_role("producer"):
        yield from size_malformed(host, "producer_logfile_maxbytes")
        app = host.inputs.get("producer_wsgi_app")
        if isinstance(app, str) and not WSGI_APP.fullmatch(app):
            yield (
                f"{host.name}: producer_wsgi_app is '{app}', but must name a module and the application in it, "
                f"e.g. newsroom.web:app. Edit producer_wsgi_app."
            )


def queues_malformed(host: Host, source: str, queues: object) -> Iterator[str]:
    for queue in queues if isinstance(queues, list) else ():
        if not QUEUE_NAME.fullmatch(str(queue)):
            yield (
                f"{host.name}: {source} names the queue '{queue}', but a queue's name cannot be empty or hold a comma or a "
                f"space: Celery would consume other queues. Name each queue as an item of the list."
            )


def size_malformed(host: Host, source: str) -> Iterator[str]:
    size = host.inputs.get(source)
    if size is not None and not LOG_SIZE.fullmatch(str(size)):
        yield (
            f"{host.name}: {source} is '{size}', but supervisord takes bytes, or a number with KB, MB or GB, e.g. 50MB. "
            f"Edit {source}."
        )


def twice(names: object) -> list[str]:
    return sorted({str(name) for name in names if names.count(name) > 1}) if isinstance(names, list) else []
