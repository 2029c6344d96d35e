"""Writes the inputs of every role on every host to a file, as `topology` reads them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.grunnfjell.platform.plugins.action import topology

DOCUMENTATION = r"""
module: role_inputs
short_description: Write every role's inputs to a file
description: [Collects the inputs as M(topology) does, and writes {host: {input: value}} as JSON where only its owner reads it.]
options:
  dest: {description: The file., type: path, required: true}
author: maintainers
"""


class ActionModule(topology.ActionModule):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        dest = Path(self._task.args.pop("dest"))
        fleet, _ = self._check(task_vars)
        inputs = {host.name: host.inputs for host in fleet.hosts.values()}
        with os.fdopen(os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(inputs, file)
        return ActionBase.run(self, tmp, task_vars) | {"changed": False}
