"""Stops a run while another one changes the same inventory's fleet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase

from ..plugin_utils.fleet.run_lock import RunUnderWay, hold

DOCUMENTATION = r"""
module: run_lock
short_description: One run at a time
description:
  - Locks the inventory until this run ends. Fails if another run holds the lock, and names that run. Check mode takes no lock.
options:
  inventory: {description: The inventory's directory., type: path, required: true}
author: maintainers
"""


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        if self._task.check_mode or not self._task.args.get("inventory"):
            return result
        try:
            # An action runs in a child process of the run.
            hold(Path(self._task.args["inventory"]), os.getppid(), list(context.CLIARGS.get("args") or ()))
        except RunUnderWay as refusal:
            return result | {"failed": True, "msg": f"Nothing was changed. {refusal}"}
        return result
