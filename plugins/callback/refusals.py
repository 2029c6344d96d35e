"""Refuses an inventory that is only partly readable, and prints the refusals of a fleet at the end of the output."""

from __future__ import annotations

from pathlib import Path

from ansible import context
from ansible.plugins.callback import CallbackBase

from ..plugin_utils.fleet.inventory_files import unreadable

DOCUMENTATION = r"""
name: refusals
type: aggregate
short_description: Refuse an unreadable inventory, and print refusals last
description:
  - Ansible only warns about a hosts file that is not YAML, does not name a variables file that is not YAML, and uses the last of
      two equal keys. This callback ends such a run with a sentence that names file and line.
    - It also ends a run whose inventory has no host.
    - Prints the refusals of the action C(topology) once, below Ansible's recap.
options: {}
"""
REFUSED = 4  # ansible-playbook's exit status for unreadable input


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "refusals"

    def v2_playbook_on_start(self, playbook) -> None:
        self._sources = [Path(source) for source in context.CLIARGS.get("inventory") or () if "," not in source]
        self._counted = False
        self._last_words = ""
        missing = [f"{source} does not exist. Correct -i." for source in self._sources if not source.exists()]
        self._refuse([*missing, *(sentence for source in self._sources for sentence in unreadable(source))])

    def v2_playbook_on_play_start(self, play) -> None:
        if self._counted or list(play.hosts) == ["localhost"]:
            return
        self._counted = True
        if self._sources and not play.get_variable_manager().get_vars(play=play)["groups"]["all"]:
            named = ", ".join(map(str, self._sources))
            self._refuse([f"The inventory {named} has no host. Name the fleet's hosts in its hosts.yml, or correct -i."])

    def v2_runner_on_ok(self, result) -> None:
        self._last_words = result._result.get("refused") or self._last_words

    def v2_playbook_on_stats(self, stats) -> None:
        if self._last_words:
            self._display.error(self._last_words, wrap_text=False)

    def _refuse(self, sentences: list[str]) -> None:
        if sentences:
            text = "\n".join(f"  * {sentence}" for sentence in sentences)
            self._display.error(f"Nothing was changed. This inventory cannot be used:\n{text}", wrap_text=False)
            raise SystemExit(REFUSED)
