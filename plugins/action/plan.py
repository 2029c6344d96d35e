"""Tells what the fleet uses of what it has, how many more workers fit and what stops the next one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ..plugin_utils.capacity.plan import as_data, plan
from ..plugin_utils.capacity.table import table
from ..plugin_utils.reports.strangers import strangers
from .topology import ActionModule as Topology

DOCUMENTATION = r"""
module: plan
short_description: What the fleet uses of what it has
description:
  - Takes the fleet as the action C(topology) takes it, with the same arguments, and prints its account. Fails afterwards
    if C(topology) would refuse the fleet. Changes no host.
options:
  roles: {description: "Role to inventory group, or list of groups.", type: dict, required: true}
  applications: {description: Inventory groups that are applications., type: list, elements: str, required: true}
  supported_releases: {description: Distribution to its supported major releases., type: dict, required: true}
  apart: {description: Pairs of roles that must not share a machine., type: list, elements: list, required: true}
  brokers: {description: What rabbitmq_consumers told on each broker., type: list, elements: dict, required: true}
  report: {description: File on the control machine that gets the same as JSON., type: path, required: true}
author: maintainers
"""


class ActionModule(Topology):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = {"changed": False}
        fleet, sentences = self._judge(task_vars)
        answers = [broker for broker in self._task.args["brokers"] if broker.get("asked")]
        # Nodes of one cluster tell the same.
        consumers = {tuple(sorted(each.items())): each for broker in answers for each in broker["consumers"]}.values()
        made = plan(fleet, sentences, strangers(fleet, consumers) if answers else None)
        report = Path(self._task.args["report"]).resolve()
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(as_data(made), indent=2) + "\n", encoding="utf-8")
        Display().display(f"\n{table(made)}\n\nThe same as JSON: {report}")
        if made.refusals:
            result |= {"failed": True, "msg": "Nothing was changed. This fleet cannot work; the sentences stand above."}
        return result
