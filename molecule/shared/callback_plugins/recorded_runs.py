"""Records what each run of a scenario's playbook changed, so tests can compare the runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: recorded_runs
type: aggregate
short_description: Record what each run of a scenario changed
description:
  - Appends one line of JSON to C(runs.jsonl) in Molecule's ephemeral directory for each run of the scenario's playbook, with
    C(check) (bool), C(began) (seconds since the epoch) and C(changed) (host to the names of its changed tasks, in order).
options: {}
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "recorded_runs"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook) -> None:
        # A role's second scenario has a word more in its name.
        scenario = os.environ.get("MOLECULE_SCENARIO_NAME", "")
        self._recorded = Path(playbook._file_name).stem in (scenario, scenario.rpartition("_")[0])
        self._began = time.time()
        self._check = False
        self._changed: dict[str, list[str]] = {}

    def v2_playbook_on_play_start(self, play) -> None:
        self._check = self._check or bool(play.get_variable_manager().get_vars(play=play).get("ansible_check_mode"))

    def v2_runner_on_ok(self, result) -> None:
        changed = self._changed.setdefault(result._host.get_name(), [])
        if result._result.get("changed"):
            changed.append(result._task.get_name())

    def v2_playbook_on_stats(self, stats) -> None:
        if not self._recorded:
            return
        run = {"check": self._check, "began": self._began, "changed": self._changed}
        with Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "runs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")
