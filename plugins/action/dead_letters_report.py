"""Prints the dead letters and keeps them as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.reports.dead_letters import render, with_causes

DOCUMENTATION = r"""
module: dead_letters_report
short_description: Say which dead letters there are, or which were replayed
description:
  - Prints what M(rabbitmq_dead_letters) told, with the exceptions that M(dead_letter_causes) registered as
    C(__dead_letter_causes) on the workers, and writes it as JSON. Fails if a chosen letter could not be sent back.
options:
  path: {description: Where the report goes on the control machine., type: path, required: true}
  action: {description: What was done., type: str, required: true}
  told: {description: The answer of M(rabbitmq_dead_letters)., type: dict, required: true}
author: maintainers
"""


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        hostvars, told = (task_vars or {})["hostvars"], self._task.args["told"]
        causes = [hostvars[host].get("__dead_letter_causes", {}).get("causes", {}) for host in hostvars]
        report = {
            "schema": 1,
            "asked_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "action": self._task.args["action"],
            "totals": told["totals"],
            "letters": with_causes(told["letters"], causes),
            "replayed": told["replayed"],
            "kept": told["kept"],
        }
        path = Path(self._task.args["path"]).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        Display().display(render(report))
        result["changed"] = False
        if report["kept"]:
            result |= {"failed": True, "msg": f"{len(report['kept'])} letters were kept: see above, and {path}."}
        return result
