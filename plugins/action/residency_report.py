"""Compares the hosts' observations with the inventory, and writes the report as JSON, Markdown and HTML."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ..plugin_utils.reports.residency import ResidencyReport
from ..plugin_utils.reports.residency_page import html, markdown, terminal

# Ansible loads a plugin by its path, so packages that plugins share are not importable by themselves.
from .topology import ActionModule as Topology

DOCUMENTATION = r"""
module: residency_report
short_description: Report where data is, who may reach it, and what contradicts the declaration
description:
  - Takes what M(residency_observed) registered as C(__residency_observed) on each host, writes the report and prints its verdict.
    Fails, after writing, when an observation contradicts the inventory. Changes nothing on a host.
options:
  roles: {description: "Role to inventory group, or list of groups.", type: dict, required: true}
  applications: {description: Inventory groups that are applications., type: list, elements: str, required: true}
  supported_releases: {description: Ignored., type: dict, default: {}}
  apart: {description: Ignored., type: list, elements: list, default: []}
  directory: {description: Where the report goes on the control machine., type: path, required: true}
author: maintainers
"""


class ActionModule(Topology):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        self._task.args = {"supported_releases": {}, "apart": [], **self._task.args}
        fleet, _ = self._check(task_vars)
        variables = task_vars or {}
        results = {name: variables["hostvars"][name].get("__residency_observed", {}) for name in fleet.hosts}
        inventory = Path(str(variables.get("inventory_dir") or "inventory"))
        report = {
            "inventory": inventory.name,
            "observed_at": datetime.now(UTC).isoformat(timespec="seconds"),
            **ResidencyReport(fleet, {name: result.get("observed") for name, result in results.items()}).report(),
        }
        directory = Path(self._task.args["directory"]).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        texts = {"json": json.dumps(report, indent=2) + "\n", "md": markdown(report), "html": html(report)}
        for ending, text in texts.items():
            (directory / f"residency-{inventory.name}.{ending}").write_text(text, encoding="utf-8")
        Display().display(f"{terminal(report)}\nThe full report: {directory}/residency-{inventory.name}.html (.md, .json)")
        result: dict[str, Any] = {"changed": False, "contradictions": report["contradictions"]}
        if contradictions := report["contradictions"]:
            result |= {"failed": True, "msg": f"{len(contradictions)} observations contradict the inventory, as listed above."}
        return result
