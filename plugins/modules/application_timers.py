#!/usr/bin/python
"""Runs an application's commands at set times, by timers of systemd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: application_timers
short_description: Run an application's commands at set times
description:
  - Each of I(timers) becomes a unit of systemd and its timer, C(grunnfjell-timer-APPLICATION-NAME). A command that still runs is
    not begun a second time; one that was due while the host was off runs at its start.
  - Timers of the application that are no longer listed are removed, with a command of theirs that still runs.
options:
  application: {description: Name of the application., type: str, required: true}
  timers:
    description: What to run, and when.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name of the timer., type: str, required: true}
      command: {description: The command and its arguments., type: list, elements: str, required: true}
      calendar: {description: When, as systemd writes it (C(systemd.time))., type: str, required: true}
      timeout: {description: Seconds after which the command is killed., type: int, default: 3600}
  run: {description: The script that begins a program of the current release., type: path, required: true}
  user: {description: Account that runs the commands., type: str, required: true}
  confinement: {description: Content of the units' drop-in that limits what a command can do., type: str, required: true}
author: maintainers
"""

EXAMPLES = r"""
- name: Clean up every night
  application_timers:
    application: shop
    timers: [{name: cleanup, command: [python, manage.py, clearsessions], calendar: "03:30"}]
    run: /opt/shop/current/run
    user: www-data
    confinement: ""
"""

RETURN = r"""
units: {description: Names of the timers' units that were written or removed., type: list, elements: str, returned: always}
"""

import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import bounded
from ..module_utils.whole_files import ManagedFile, usual_umask, write_files

UNITS = Path("/etc/systemd/system")
PREFIX = "grunnfjell-timer-"
SYSTEMCTL_S = 60.0
SERVICE = """\
# Managed by Grunnfjell: edit the inventory (application_timers), not this file.
[Unit]
Description=Timer {name} of {application}
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
User={user}
WorkingDirectory={directory}
ExecStart={command}
TimeoutStartSec={timeout}
"""
TIMER = """\
# Managed by Grunnfjell: edit the inventory (application_timers), not this file.
[Unit]
Description=Times of the timer {name} of {application}

[Timer]
OnCalendar={calendar}
AccuracySec=1s
Persistent=true

[Install]
WantedBy=timers.target
"""


class Refusal(Exception):
    """A sentence for the operator."""


def quoted(word: str) -> str:
    """A word of ExecStart as it is: systemd would replace variables and specifiers.

    >>> quoted('100% "$HOME"')
    '"100%% \\\\"$$HOME\\\\""'
    """
    for special, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(special, written)
    return f'"{word}"'


def systemd(*argv: str) -> str:
    done = bounded.run(list(argv), SYSTEMCTL_S)
    if done.returncode:
        raise Refusal(f"{' '.join(argv)} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def files_of(params: dict[str, Any], timer: dict[str, Any], unit: str) -> list[ManagedFile]:
    # The code of the current release, where `python manage.py` finds its file.
    directory = Path(params["run"]).parent / "src"
    values = {**params, **timer, "directory": directory, "command": " ".join(map(quoted, [params["run"], *timer["command"]]))}
    contents = {
        f"{unit}.service": SERVICE.format(**values),
        f"{unit}.service.d/grunnfjell-confinement.conf": params["confinement"],
        f"{unit}.timer": TIMER.format(**values),
    }
    return [ManagedFile(str(UNITS / path), content, "root", "root", 0o644) for path, content in contents.items()]


def refuse_unreadable(timers: list[dict[str, Any]]) -> None:
    for timer in timers:
        done = bounded.run(["systemd-analyze", "calendar", timer["calendar"]], SYSTEMCTL_S)
        if done.returncode:
            raise Refusal(
                f"application_timers: the timer '{timer['name']}' has the calendar '{timer['calendar']}', which systemd cannot "
                f"read ({(done.stderr or done.stdout).strip()}). `systemd-analyze calendar` on a host explains one; for example "
                f"*:0/5 is every five minutes."
            )


def in_force(unit: str) -> bool:
    """Whether the timer runs, at each start of the host too, and systemd has read both files: a run may have been cut off."""
    shown = systemd(
        "systemctl", "show", f"{unit}.timer", f"{unit}.service", "--property", "ActiveState,UnitFileState,NeedDaemonReload"
    )
    timer, service = (set(part.split()) for part in shown.strip().split("\n\n"))
    running = {"ActiveState=active", "UnitFileState=enabled", "NeedDaemonReload=no"} <= timer
    return running and "NeedDaemonReload=no" in service


def remove(unit: str) -> None:
    systemd("systemctl", "disable", "--now", f"{unit}.timer")
    systemd("systemctl", "stop", f"{unit}.service")
    for path in (UNITS / f"{unit}.timer", UNITS / f"{unit}.service"):
        path.unlink(missing_ok=True)
    shutil.rmtree(UNITS / f"{unit}.service.d", ignore_errors=True)


def schedule(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    # An application's name has no hyphen.
    prefix = f"{PREFIX}{params['application']}-"
    wanted = {prefix + timer["name"]: timer for timer in params["timers"]}
    refuse_unreadable(params["timers"])
    # The service too: a removal may have been cut off.
    present = {path.stem for path in UNITS.glob(f"{prefix}*") if path.suffix in (".timer", ".service")}
    gone = sorted(present - set(wanted))
    files = {unit: files_of(params, timer, unit) for unit, timer in wanted.items()}
    result = write_files([file for of_unit in files.values() for file in of_unit], check_mode)
    changed = [unit for unit, of_unit in files.items() if {file.path for file in of_unit} & set(result.changed)]
    due = sorted({*changed, *(unit for unit in wanted if unit in present and not in_force(unit))})
    if not check_mode and (gone or due):
        for unit in gone:
            remove(unit)
        systemd("systemctl", "daemon-reload")
        for unit in due:
            systemd("systemctl", "enable", f"{unit}.timer")
            systemd("systemctl", "restart", f"{unit}.timer")
    return {"changed": bool(gone or due), "units": [*due, *gone], "diff": result.diffs}


def main() -> None:
    usual_umask()
    timer = {
        "name": {"type": "str", "required": True},
        "command": {"type": "list", "elements": "str", "required": True},
        "calendar": {"type": "str", "required": True},
        "timeout": {"type": "int", "default": 3600},
    }
    module = AnsibleModule(
        argument_spec={
            "application": {"type": "str", "required": True},
            "timers": {"type": "list", "elements": "dict", "options": timer, "required": True},
            "run": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "confinement": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        result = schedule(module.params, module.check_mode)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
