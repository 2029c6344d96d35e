"""Stands before the kit's action of this name: a host that carries `measured` in its variables is that, and is not asked.

How the real one reads a host is held against real hosts in molecule/topology/tests.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))

from action.resource_facts import ActionModule as Measuring


class ActionModule(Measuring):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        measured = (task_vars or {}).get("measured")
        return {"ansible_facts": measured} if measured else super().run(tmp, task_vars)
