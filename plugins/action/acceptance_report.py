"""Writes what every host was measured at, as JSON and as a page."""

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
short_description: Say of each host whether it is what was paid for
description:
  - Takes what M(acceptance) registered as C(__acceptance) on each host, prints it, and writes it as JSON with a page of HTML
    beside it. Fails when a host is refused or was not measured. Writes nothing in check mode, in which nothing was measured.
options:
  path: {description: Where the JSON goes on the control machine., type: path, required: true}
author: maintainers
"""

TOLD = ("accepted", "measured_at", "machine_id", "clock_offset_seconds", "findings")


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
    def _host(held: Any) -> dict[str, Any]:
        told = held.get("__acceptance") or {}
        if "findings" not in told:
            return {"accepted": False, "error": str(told.get("msg", "it was not measured"))}
        return {key: told.get(key) for key in TOLD}
