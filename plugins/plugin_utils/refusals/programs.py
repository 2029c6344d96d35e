"""Programs that cannot run side by side, or at all."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.model import Fleet


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


def twice(names: object) -> list[str]:
    return sorted({str(name) for name in names if names.count(name) > 1}) if isinstance(names, list) else []
