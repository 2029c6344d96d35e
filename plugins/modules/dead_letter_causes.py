#!/usr/bin/python
"""The exceptions of dead letters, from a worker's logs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dead_letter_causes
short_description: Find why jobs died, in a worker's log
description:
  - The broker knows that a job was rejected, the worker knows why. Looks for the task's id in the workers' error logs, the newest
    first, and returns the last exception. Returns its text, which may be personal, only with I(show_arguments). Changes nothing.
options:
  ids: {description: Ids of the tasks., type: list, elements: str, required: true}
  programs: {description: "supervisord's sections, which name the workers' logs.", type: path,
             default: /etc/supervisor/conf.d/celery_worker.conf}
  show_arguments: {description: "Return the exception's text, not only its name.", type: bool, default: false}
author: maintainers
"""

EXAMPLES = r"""
- name: Find the exceptions
  dead_letter_causes:
    ids: [0193e5a4-7c3e-7000-8000-000000000000]
"""

RETURN = r"""
causes: {description: "Task id to its last exception.", type: dict, returned: always}
"""

import re
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

# Celery logs "Task NAME[ID] raised unexpected: EXCEPTION", and grunnfjell_consumer.py "Task NAME[ID] was refused: REASON
# (EXCEPTION)" for a message that a worker could not read.
RAISED = re.compile(r"Task \S+?\[(?P<id>[^\]]+)\] (?:raised unexpected|INTERNAL ERROR|was refused): (?P<what>.*)$")

# Enough for days of a busy worker.
NEWEST_BYTES = 64 * 1024 * 1024


def causes(lines: Iterable[str], ids: set[str], show_arguments: bool) -> dict[str, str]:
    """Id to the last exception in the lines."""
    exceptions = {}
    for line in lines:
        match = RAISED.search(line)
        if match and match["id"] in ids:
            exceptions[match["id"]] = match["what"].strip() if show_arguments else match["what"].partition("(")[0].strip()
    return exceptions


def error_logs(sections: str) -> list[Path]:
    """The programs' error logs, rotated ones included."""
    names = [Path(name.strip()) for name in re.findall(r"^stderr_logfile=(.+)$", sections, re.MULTILINE)]
    return [log for name in names for log in name.parent.glob(f"{name.name}*")]


def newest_lines(logs: list[Path]) -> Iterable[str]:
    """The newest part of the logs, oldest line first."""
    logs = sorted(logs, key=lambda log: log.stat().st_mtime, reverse=True)
    left, parts = NEWEST_BYTES, []
    for log in logs:
        if left <= 0:
            break
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - left))
            parts.append(file.read(left))
            left -= len(parts[-1])
    for part in reversed(parts):
        yield from part.decode(errors="replace").splitlines()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ids": {"type": "list", "elements": "str", "required": True},
            "programs": {"type": "path", "default": "/etc/supervisor/conf.d/celery_worker.conf"},
            "show_arguments": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    asked = module.params
    sections = Path(asked["programs"])
    logs = error_logs(sections.read_text(encoding="utf-8")) if sections.exists() else []
    module.exit_json(changed=False, causes=causes(newest_lines(logs), set(asked["ids"]), asked["show_arguments"]))


if __name__ == "__main__":
    main()
