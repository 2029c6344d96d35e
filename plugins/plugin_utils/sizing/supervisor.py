"""Celery's programs as supervisord's sections."""

from __future__ import annotations

import shlex
from typing import Any

from ..fleet.model import Host
from ..fleet.units import MIB
from .worker_options import log_name


def supervisor_command(argv: list[str]) -> str:
    """The arguments for supervisord's ``command``: quoted, and with doubled %, which it would expand."""
    return shlex.join(str(argument) for argument in argv).replace("%", "%%")


def program_sections(
    programs: list[dict[str, Any]], run: str, log_directory: str, common: dict[str, Any]
) -> list[dict[str, Any]]:
    """supervisord's section of each program: its name and its settings by supervisord's keys.

    programs: each with name, log, and argv or supervisord's command; kind if it is not a plain program; settings that differ
        from the common ones.
    run: script that runs argv in the application's environment.  common: settings of all.
    """
    return [
        {
            "name": program["name"],
            "kind": program.get("kind", "program"),
            "settings": {
                "command": program.get("command") or f"{run} {supervisor_command(program['argv'])}",
                **{key: str(value).lower() if isinstance(value, bool) else value for key, value in common.items()},
                **program.get("settings", {}),
                "stdout_logfile": f"{log_directory}/{program['log']}.log",
                "stderr_logfile": f"{log_directory}/{program['log']}.err.log",
            },
        }
        for program in programs
    ]


def worker_programs(
    programs: list[dict[str, Any]], host: str, celery_app: str, queues: list[str], concurrency: int, loglevel: str
) -> list[dict[str, Any]]:
    """Each worker program with its node name, arguments and log name.

    programs: as celery_worker_programs.  queues, concurrency: for what a program leaves out.
    """
    return [
        {
            "name": program["name"],
            "log": log_name(program["name"]),
            "node": f"{program['name']}@{host}",
            "argv": [
                "celery",
                f"--app={celery_app}",
                "worker",
                f"--hostname={program['name']}@{host}",
                f"--queues={','.join(program.get('queues') or queues)}",
                f"--concurrency={program.get('concurrency') or concurrency}",
                f"--loglevel={loglevel}",
                # Gossip and mingle cost a queue and a second at each start, and have no use here.
                "--without-gossip",
                "--without-mingle",
                *(program.get("arguments") or []),
            ],
        }
        for program in programs
    ]


def programs_consuming(programs: list[dict[str, Any]], queues: list[str], queue: str) -> list[str]:
    """Names of the programs that consume a queue.  queues: those of a program that names none.

    >>> programs_consuming([{"name": "a"}, {"name": "b", "queues": ["mail"]}], ["shop"], "mail")
    ['b']
    """
    return [program["name"] for program in programs if queue in (program.get("queues") or queues)]


# Celery's beat saves its schedule on TERM. If that fails in the middle of a query of django-celery-beat, the signal is lost and
# the beat goes on. It runs no task, so it need not be waited for.
BEAT_STOP_S = 30


def beat_program(celery_app: str, state: str, loglevel: str, stopwaitsecs: int) -> dict[str, Any]:
    """The program that sends an application's scheduled tasks, with its schedule in the state directory."""
    return {
        "settings": {"stopwaitsecs": min(BEAT_STOP_S, int(stopwaitsecs))},
        "name": "celery-beat",
        "log": "beat",
        "argv": ["celery", f"--app={celery_app}", "beat", f"--schedule={state}/celerybeat-schedule", f"--loglevel={loglevel}"],
    }


SUPERVISORD = 24 * MIB  # measured: 22 MiB


def memory_parts(host: Host) -> list[tuple[str, int]]:
    return [("supervisord", SUPERVISORD)]
