"""Holds a host against what was paid for: by its record where one stands, else by measuring it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils.reports.acceptance import RECORDED, judge, paid, record_of, refused, stands

DOCUMENTATION = r"""
module: acceptance
short_description: Refuse a host that is not what was paid for
description:
  - What costs nothing is asked on every run. What costs work is read from the host's last record, if that tells of this
    machine, was measured in this way, is young enough, and would be accepted; otherwise it is measured.
  - Needs the facts of M(resource_facts). In check mode nothing is measured, and what is known is judged all the same.
options:
  limits: {description: Input to its value., type: dict, required: true}
  tolerance: {description: Ratio by which memory and disk may fall short of what was paid for., type: float, required: true}
  method: {description: 'What is measured how, as M(acceptance_measures) takes it.', type: dict, required: true}
  exceptions: {description: Measure to the reason why it may differ., type: dict, required: true}
  valid_days: {description: Days for which a record stands., type: int, required: true}
  keep: {description: How many records stay on the host., type: int, required: true}
  anew: {description: Measure whatever the record says., type: bool, default: false}
  refuse: {description: Fail when the host is refused; a report says so otherwise., type: bool, default: true}
author: maintainers
"""

RETURN = r"""
accepted: {description: Whether the host is., returned: always, type: bool}
findings: {description: What came of each measure., returned: always, type: list, elements: dict}
"""


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self._variables = task_vars or {}
        args = self._task.args
        method, exceptions = args["method"], args["exceptions"]
        resources = self._variables["ansible_facts"]["resources"]
        host = self._variables["inventory_hostname"]
        limits = dict(args["limits"])
        for claim in ("acceptance_memory_bytes", "acceptance_disk_bytes"):
            limits[claim] = paid(limits[claim], args["tolerance"])

        told = self._ask("ask", directory=method["directory"])
        if told.get("failed"):
            return result | told
        measures = told["measures"] | {"cpus": resources["cpus"], "memory": resources["memory_bytes"]}
        errors, record = dict(told["errors"]), told["record"]
        known = stands(record, told["now"], told["machine_id"], method, args["valid_days"])
        measured_at = record["measured_at"] if known else None
        if known:
            measures |= {name: value for name, value in record["measures"].items() if name in RECORDED}
            errors |= {name: why for name, why in record["errors"].items() if name in RECORDED}
        findings = judge(host, measures, errors, limits, exceptions)
        # A remedy may have come meanwhile, so that no old record refuses a host. What costs nothing to see ends the run at once.
        hopeless = bool(refused([one for one in findings if one.measure not in RECORDED])) and not args.get("anew")
        measuring = args.get("anew") or not known or bool(refused(findings))
        if measuring and not hopeless and not self._task.check_mode:
            loaded = self._ask("measure", **method)
            if loaded.get("failed"):
                return result | loaded
            measures |= loaded["measures"]
            errors = told["errors"] | loaded["errors"]
            told["now"] = measured_at = loaded["now"]
            findings = judge(host, measures, errors, limits, exceptions)
            kept = self._ask("record", record=record_of(told, method, findings, measures, errors), keep=args["keep"])
            if kept.get("failed"):
                return result | kept
            result["changed"] = True
        elif measuring:
            if not known:
                findings = [one for one in findings if one.measure not in RECORDED]
            if not hopeless:
                result |= {"changed": True, "would": f"measure disk, processors and round trip, {method['seconds']} s each"}

        sentences = refused(findings)
        result |= {
            "accepted": not sentences,
            "findings": [asdict(one) for one in findings],
            "measured_at": measured_at,
            "machine_id": told["machine_id"],
            "clock_offset_seconds": resources.get("clock_offset_seconds"),
        }
        if sentences and args.get("refuse", True):
            text = "\n".join(f"  * {sentence}" for sentence in sentences)
            result |= {"failed": True, "msg": f"Nothing was built. This host is not what was paid for:\n{text}"}
        return result

    def _ask(self, do: str, **args: Any) -> dict[str, Any]:
        return self._execute_module("grunnfjell.platform.acceptance_measures", {"do": do, **args}, task_vars=self._variables)
