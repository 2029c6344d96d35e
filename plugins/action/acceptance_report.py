"""Writes the acceptance measures of all hosts, as JSON and as an HTML page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.reports.acceptance import fleet_report
from ..plugin_utils.reports.acceptance_page import page, text

DOCUMENTATION = r"""
module: acceptance_report
short_description: Report for each host whether it is what was paid for
description:
  - Prints what M(acceptance) registered as C(__acceptance) on each host, and writes it as JSON and HTML. Fails when a host was
    refused or not measured. Check mode measures nothing, and writes nothing.
options:
  path: {description: Where the JSON goes on the control machine., type: path, required: true}
author: maintainers
"""

FIELDS = ("accepted", "measured_at", "machine_id", "clock_offset_seconds", "findings")


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        hosts = {name: self._host(variables["hostvars"][name]) for name in variables["ansible_play_hosts_all"]}
        inventory = str(variables.get("inventory_dir", ""))
        report = fleet_report(inventory, datetime.now(UTC).isoformat(timespec="seconds"), hosts)
        Display().display(text(report))
        if not self._task.check_mode:
            path = Path(self._task.args["path"]).resolve()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            path.with_suffix(".html").write_text(page(report), encoding="utf-8")
        result |= {"changed": False, "accepted": report["accepted"]}
        if not report["accepted"]:
            sentences = "\n".join(f"  * {sentence}" for sentence in report["refused"])
            result |= {"failed": True, "msg": f"Not what was paid for:\n{sentences}"}
        return result

    @staticmethod
    def _host(variables: Any) -> dict[str, Any]:
        result = variables.get("__acceptance") or {}
        if "findings" not in result:
            return {"accepted": False, "error": str(result.get("msg", "it was not measured"))}
        return {key: result.get(key) for key in FIELDS}
