"""Prints what the fleet uses, how many more workers fit and what limits the next one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ..plugin_utils.capacity.plan import as_data, plan
from ..plugin_utils.capacity.table import table
from ..plugin_utils.reports.unknown_consumers import unknown_consumers
from .topology import ActionModule as Topology

DOCUMENTATION = r"""
module: plan
short_description: Report what the fleet uses of what it has
description:
  - Takes the same arguments as the action C(topology), and prints the fleet's capacity. Fails afterwards if C(topology) would
    refuse the fleet. Changes no host.
options:
  roles: {description: "Role to inventory group, or list of groups.", type: dict, required: true}
  applications: {description: Inventory groups that are applications., type: list, elements: str, required: true}
  supported_releases: {description: Distribution to its supported major releases., type: dict, required: true}
  apart: {description: Pairs of roles that must not share a machine., type: list, elements: list, required: true}
  brokers: {description: The result of rabbitmq_consumers on each broker., type: list, elements: dict, required: true}
  report: {description: JSON file on the control machine., type: path, required: true}
author: maintainers
"""


class ActionModule(Topology):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = {"changed": False}
        fleet, sentences = self._check(task_vars)
        answers = [broker for broker in self._task.args["brokers"] if broker.get("asked")]
        # Nodes of one cluster list the same consumers.
        consumers = {tuple(sorted(entry.items())): entry for broker in answers for entry in broker["consumers"]}.values()
        capacity = plan(fleet, sentences, unknown_consumers(fleet, consumers) if answers else None)
        report = Path(self._task.args["report"]).resolve()
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(as_data(capacity), indent=2) + "\n", encoding="utf-8")
        Display().display(f"\n{table(capacity)}\n\nThe same as JSON: {report}")
        if capacity.refusals:
            result |= {"failed": True, "msg": "Nothing was changed. This fleet cannot work; the reasons are above."}
        return result
