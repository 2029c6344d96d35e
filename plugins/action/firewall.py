"""Loads a host's firewall on trial with the module of this name, and confirms it over a new connection."""

from __future__ import annotations

import shlex
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

PROGRAM = "/run/grunnfjell-firewall/trial/firewall.py"
# The directory exists only during the trial.
TRIAL_ENDED = "test ! -e /run/grunnfjell-firewall/trial"
ROLLED_BACK = 75  # EX_TEMPFAIL: the connection worked, but only because the former rules were loaded again


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        seconds = int(self._task.args.get("trial_seconds", 60))
        result |= self._execute_module(module_args=self._task.args, task_vars=task_vars)
        began = time.monotonic()
        token = result.pop("token", None)
        if token is None:
            return result
        confirm = f"test -e {PROGRAM} || exit {ROLLED_BACK}; /usr/bin/python3 {PROGRAM} confirm {shlex.quote(token)}"
        last_error = ""
        while time.monotonic() - began < seconds:
            try:
                answer = self._on_new_connection(confirm)
            except AnsibleConnectionFailure as error:
                last_error = " ".join(str(error).split())
                time.sleep(1)  # a refused connection fails at once
                continue
            if answer["rc"] == 0:
                return result
            if answer["rc"] == ROLLED_BACK:
                break
            output = answer["stderr"].strip() or answer["stdout"].strip()
            return result | self._rolled_back(self._wait_for_rollback(seconds) or f"confirming them failed: {output}")
        return result | self._rolled_back(
            self._wait_for_rollback(seconds) or f"no new connection could be opened: {last_error or 'none in time'}"
        )

    def _on_new_connection(self, command: str) -> dict[str, Any]:
        """Runs the command over a new connection; an established one proves nothing."""
        self._connection.reset()
        return self._low_level_execute_command(command)

    def _wait_for_rollback(self, seconds: int) -> str:
        """Waits until the host has its former rules again. Returns an empty text, or why it does not have them.

        Raises AnsibleConnectionFailure when the host stays unreachable.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self._on_new_connection(TRIAL_ENDED)["rc"] == 0:
                    return ""
            except AnsibleConnectionFailure:
                if time.monotonic() > deadline:
                    raise
            time.sleep(1)  # polling; bounded by the deadline
            if time.monotonic() > deadline:
                return "its timer has not restored the former ones yet"

    @staticmethod
    def _rolled_back(why: str) -> dict[str, Any]:
        return {
            "failed": True,
            "changed": False,
            "msg": (
                f"The firewall's new rules were on trial, but {why}. The former rules are in force again. Correct the "
                f"addresses and ports of the administrators in topology_sites, or raise firewall_trial_seconds for a slow host."
            ),
        }
