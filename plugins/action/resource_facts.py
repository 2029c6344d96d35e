"""Measures a host with the module of this name, and its clock offset."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase


def clock_offset(asked: float, clock: float, answered: float) -> float:
    """Seconds by which the host's clock is ahead; less the round trip, so a slow answer is not taken for a wrong clock."""
    if clock < asked:
        return clock - asked
    return max(0.0, clock - answered)


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        asked = time.time()
        result |= self._execute_module(module_args=self._task.args, task_vars=task_vars)
        if (clock := result.pop("clock", None)) is not None:
            result["ansible_facts"]["resources"]["clock_offset_seconds"] = clock_offset(asked, clock, time.time())
        return result
