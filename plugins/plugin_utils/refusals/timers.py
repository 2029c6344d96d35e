"""Timers of applications that could not run, or would run twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..fleet.model import Fleet, Host

# A part of the names of systemd's units.
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
LONGEST_S = 86400


def timers_of(host: Host) -> list[dict[str, Any]]:
    given = host.inputs.get("application_timers")
    return [timer for timer in given if isinstance(timer, dict)] if isinstance(given, list) else []


def unworkable_timers(fleet: Fleet) -> Iterator[str]:
    for name in fleet.applications:
        hosts = {host.name: host for role in ("celery_worker", "producer") for host in fleet.of_application(name, role)}
        places: dict[str, list[str]] = {}
        for host in hosts.values():
            for timer in timers_of(host):
                yield from malformed(host, timer)
                places.setdefault(str(timer.get("name")), []).append(host.name)
        for timer, on in places.items():
            if len(set(on)) < len(on):
                yield f"{on[0]}: application_timers names '{timer}' twice. Give each timer a different name."
            elif len(on) > 1:
                yield (
                    f"The timer '{timer}' of '{name}' is on {len(on)} hosts ({', '.join(on)}), so its command would run on each. "
                    f"Set application_timers for one of them, in host_vars/{on[0]}."
                )


def malformed(host: Host, timer: dict[str, Any]) -> Iterator[str]:
    name, command, timeout = timer.get("name"), timer.get("command"), timer.get("timeout", 1)
    if not NAME.fullmatch(str(name)):
        yield (
            f"{host.name}: application_timers has the name '{name}'; a name is 1 to 40 small letters, digits and hyphens, and "
            f"begins with no hyphen. Rename it."
        )
    if isinstance(command, list) and (not command or any("\n" in str(word) for word in command)):
        yield (
            f"{host.name}: the timer '{name}' has the command {command}; it needs a program, and no word may hold a line break. "
            f"Write it as [python, manage.py, clearsessions]."
        )
    if isinstance(timeout, int) and not 1 <= timeout <= LONGEST_S:
        yield (
            f"{host.name}: the timer '{name}' has the timeout {timeout}; it must be between 1 and {LONGEST_S} s, since a command "
            f"that hangs must end by itself. Edit application_timers."
        )
    if not str(timer.get("calendar", "x")).strip() or "\n" in str(timer.get("calendar", "x")):
        yield (
            f"{host.name}: the timer '{name}' has no calendar. Write its times as systemd does, for example '*:0/5' for every "
            f"five minutes or '03:30' for every night."
        )
