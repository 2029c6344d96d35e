"""Loads a host's firewall on trial by the module of this name, and confirms it only by a new connection."""

from __future__ import annotations

import shlex
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

PROGRAM = "/run/grunnfjell-firewall/trial/firewall.py"
# The trial's directory goes with its end, whichever it is.
OVER = "test ! -e /run/grunnfjell-firewall/trial"
GONE_BACK = 75  # EX_TEMPFAIL: the connection came in, but only because the former rules were in force again


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
        confirm = f"test -e {PROGRAM} || exit {GONE_BACK}; /usr/bin/python3 {PROGRAM} confirm {shlex.quote(token)}"
        unheard = ""
        while time.monotonic() - began < seconds:
            try:
                answer = self._anew(confirm)
            except AnsibleConnectionFailure as error:
                unheard = " ".join(str(error).split())
                time.sleep(1)  # who is refused at once does not ask a thousand times
                continue
            if answer["rc"] == 0:
                return result
            if answer["rc"] == GONE_BACK:
                break
            said = answer["stderr"].strip() or answer["stdout"].strip()
            return result | self._went_back(self._after_all(seconds) or f"confirming them failed: {said}")
        return result | self._went_back(
            self._after_all(seconds) or f"no new connection came in while they were: {unheard or 'none in time'}"
        )

    def _anew(self, command: str) -> dict[str, Any]:
        """The command by a connection that is opened for it: one that was there already proves nothing."""
        self._connection.reset()
        return self._low_level_execute_command(command)

    def _after_all(self, seconds: int) -> str:
        """Waits until the host has gone back; an empty text when it has. A host that stays out of reach is told as such."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self._anew(OVER)["rc"] == 0:
                    return ""
            except AnsibleConnectionFailure:
                if time.monotonic() > deadline:
                    raise
            time.sleep(1)  # between two looks; the deadline ends them
            if time.monotonic() > deadline:
                return "its timer has not brought the former ones back yet"

    @staticmethod
    def _went_back(why: str) -> dict[str, Any]:
        return {
            "failed": True,
            "changed": False,
            "msg": (
                f"The new rules of the firewall were on trial, and {why}. The former rules are in force again. Correct the "
                f"addresses and ports of the administrators in topology_places, or raise firewall_trial_seconds for a slow host."
            ),
        }
