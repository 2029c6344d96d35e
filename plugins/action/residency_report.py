"""Holds what the hosts told against the inventory, and keeps the answer as JSON, Markdown and HTML."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ..plugin_utils.reports.residency import Judge
from ..plugin_utils.reports.residency_page import html, markdown, terminal

# Ansible loads a plugin by its path, so packages that plugins share are not importable by themselves.
from .topology import ActionModule as Topology

DOCUMENTATION = r"""
module: residency_report
short_description: Say where data is, who may reach it, and what contradicts the declaration
description:
  - Takes what M(residency_observed) registered as C(__residency_observed) on each host, writes the report and prints its verdict.
    Fails, once all is written, when anything observed contradicts the inventory. Changes nothing on a host.
options:
  roles: {description: "Role to inventory group, or list of groups.", type: dict, required: true}
  applications: {description: Inventory groups that are applications., type: list, elements: str, required: true}
  supported_releases: {description: Not judged here., type: dict, default: {}}
  apart: {description: Not judged here., type: list, elements: list, default: []}
  directory: {description: Where the report goes on the control machine., type: path, required: true}
author: maintainers
"""


class ActionModule(Topology):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        self._task.args = {"supported_releases": {}, "apart": [], **self._task.args}
        fleet, _ = self._judge(task_vars)
        variables = task_vars or {}
        told = {name: variables["hostvars"][name].get("__residency_observed", {}) for name in fleet.hosts}
        inventory = Path(str(variables.get("inventory_dir") or "inventory"))
        report = {
            "inventory": inventory.name,
            "observed_at": datetime.now(UTC).isoformat(timespec="seconds"),
            **Judge(fleet, {name: one.get("observed") for name, one in told.items()}).report(),
        }
        directory = Path(self._task.args["directory"]).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        texts = {"json": json.dumps(report, indent=2) + "\n", "md": markdown(report), "html": html(report)}
        for ending, text in texts.items():
            (directory / f"residency-{inventory.name}.{ending}").write_text(text, encoding="utf-8")
        Display().display(f"{terminal(report)}\nThe whole: {directory}/residency-{inventory.name}.html (.md, .json)")
        result: dict[str, Any] = {"changed": False, "contradictions": report["contradictions"]}
        if found := report["contradictions"]:
            result |= {"failed": True, "msg": f"{len(found)} observations contradict the inventory; the sentences stand above."}
        return result
