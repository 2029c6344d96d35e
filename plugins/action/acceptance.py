"""Compares a host with what was paid for, by its last valid record or by measuring it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils.reports.acceptance import RECORDED, findings_of, is_valid, paid, record_of, refused

DOCUMENTATION = r"""
module: acceptance
short_description: Refuse a host that is not what was paid for
description:
  - Checks what costs nothing on every run. Expensive measures are read from the host's last record, if it is of this machine, was
    measured with the same method, is recent enough and would be accepted; otherwise they are measured again.
  - Needs the facts of M(resource_facts). Check mode measures nothing, and judges by what is known.
options:
  limits: {description: Input to its value., type: dict, required: true}
  tolerance: {description: Ratio by which memory and disk may fall short of what was paid for., type: float, required: true}
  method: {description: Arguments of C(measure) in M(acceptance_measures)., type: dict, required: true}
  exceptions: {description: Measure to the reason why it may differ., type: dict, required: true}
  valid_days: {description: Days for which a record is valid., type: int, required: true}
  keep: {description: Number of records that stay on the host., type: int, required: true}
  remeasure: {description: Measure even if the record is valid., type: bool, default: false}
  refuse: {description: Fail when the host is refused; otherwise only report it., type: bool, default: true}
author: maintainers
"""

RETURN = r"""
accepted: {description: Whether the host is accepted., returned: always, type: bool}
findings: {description: The result of each measure., returned: always, type: list, elements: dict}
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

        state = self._ask("ask", directory=method["directory"])
        if state.get("failed"):
            return result | state
        measures = state["measures"] | {"cpus": resources["cpus"], "memory": resources["memory_bytes"]}
        errors, record = dict(state["errors"]), state["record"]
        known = is_valid(record, state["now"], state["machine_id"], method, args["valid_days"])
        measured_at = record["measured_at"] if known else None
        if known:
            measures |= {name: value for name, value in record["measures"].items() if name in RECORDED}
            errors |= {name: why for name, why in record["errors"].items() if name in RECORDED}
        findings = findings_of(host, measures, errors, limits, exceptions)
        # The host may have been repaired since, so an old record never refuses it. The free checks end the run at once.
        free = [finding for finding in findings if finding.measure not in RECORDED]
        hopeless = bool(refused(free)) and not args.get("remeasure")
        measuring = args.get("remeasure") or not known or bool(refused(findings))
        if measuring and not hopeless and not self._task.check_mode:
            measured = self._ask("measure", **method)
            if measured.get("failed"):
                return result | measured
            measures |= measured["measures"]
            errors = state["errors"] | measured["errors"]
            state["now"] = measured_at = measured["now"]
            findings = findings_of(host, measures, errors, limits, exceptions)
            kept = self._ask("record", record=record_of(state, method, findings, measures, errors), keep=args["keep"])
            if kept.get("failed"):
                return result | kept
            result["changed"] = True
        elif measuring:
            if not known:
                findings = [finding for finding in findings if finding.measure not in RECORDED]
            if not hopeless:
                result |= {"changed": True, "would": f"measure disk, processors and round trip, {method['seconds']} s each"}

        sentences = refused(findings)
        result |= {
            "accepted": not sentences,
            "findings": [asdict(finding) for finding in findings],
            "measured_at": measured_at,
            "machine_id": state["machine_id"],
            "clock_offset_seconds": resources.get("clock_offset_seconds"),
        }
        if sentences and args.get("refuse", True):
            text = "\n".join(f"  * {sentence}" for sentence in sentences)
            result |= {"failed": True, "msg": f"Nothing was set up. This host is not what was paid for:\n{text}"}
        return result

    def _ask(self, do: str, **args: Any) -> dict[str, Any]:
        return self._execute_module("grunnfjell.platform.acceptance_measures", {"do": do, **args}, task_vars=self._variables)
