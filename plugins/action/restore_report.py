"""Prints the result of a restore drill and writes it as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.reports.restore import in_place, sentences

DOCUMENTATION = r"""
module: restore_report
short_description: Report a restore drill
description:
  - Takes what M(pgbackrest_drill) registered as C(__pgbackrest_drill) on each repository host, and M(restic_drill) as
    C(__restic_drill) on each host with files, prints it, and writes it as JSON.
  - Fails when one was not proved, and when nothing was drilled. Changes nothing on a host.
  - With I(restored), takes what M(pgbackrest_restore) returned instead, prints it, and adds it to the JSON.
options:
  restored: {description: Result of a restore in place., type: dict}
  path: {description: Where the report goes on the control machine., type: path, required: true}
author: maintainers
"""


def write(path: Path, changes: dict[str, Any]) -> None:
    """Into a report that may hold other kinds of restores, and in C(in_place) other hosts."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        report = {}
    if "in_place" in changes:
        changes = {"in_place": report.get("in_place", {}) | changes["in_place"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report | changes, indent=2) + "\n", encoding="utf-8")


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        path = Path(self._task.args["path"]).resolve()
        if restored := self._task.args.get("restored"):
            write(path, {"in_place": {str(variables["inventory_hostname"]): restored}})
            Display().display("\n".join(in_place(str(variables["inventory_hostname"]), restored)))
            return result | {"changed": False, "restored": restored}
        records, files = (
            {
                name: held["record"]
                for name in variables["ansible_play_hosts_all"]
                if "record" in (held := variables["hostvars"][name].get(registered) or {})
            }
            for registered in ("__pgbackrest_drill", "__restic_drill")
        )
        write(path, {"inventory": str(variables.get("inventory_dir", "")), "repositories": records, "files": files})
        lines, problems = sentences(records, files)
        Display().display("\n".join(lines))
        result |= {"changed": False, "problems": problems}
        if problems:
            result |= {"failed": True, "msg": " ".join(problems)}
        return result
