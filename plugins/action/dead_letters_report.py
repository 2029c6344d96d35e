"""Prints the dead letters and writes them as JSON."""

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
short_description: Report which dead letters exist, or which were replayed
description:
  - Prints the answer of M(rabbitmq_dead_letters), with the exceptions that M(dead_letter_causes) registered as
    C(__dead_letter_causes) on the workers, and writes it as JSON. Fails if a chosen letter could not be sent back.
options:
  path: {description: Where the report goes on the control machine., type: path, required: true}
  action: {description: The action of M(rabbitmq_dead_letters)., type: str, required: true}
  answer: {description: The answer of M(rabbitmq_dead_letters)., type: dict, required: true}
author: maintainers
"""


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        hostvars, answer = (task_vars or {})["hostvars"], self._task.args["answer"]
        causes = [hostvars[host].get("__dead_letter_causes", {}).get("causes", {}) for host in hostvars]
        report = {
            "schema": 1,
            "asked_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "action": self._task.args["action"],
            "totals": answer["totals"],
            "without": answer["without"],
            "letters": with_causes(answer["letters"], causes),
            "replayed": answer["replayed"],
            "kept": answer["kept"],
        }
        path = Path(self._task.args["path"]).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        Display().display(render(report))
        result["changed"] = False
        if report["kept"]:
            result |= {"failed": True, "msg": f"{len(report['kept'])} letters were not sent back: see above, and {path}."}
        return result
