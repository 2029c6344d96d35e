"""Ends a run whose inventory Ansible can read only in part, before it goes on with the rest, or with no host."""

from __future__ import annotations

import sys
from pathlib import Path

from ansible import context
from ansible.plugins.callback import CallbackBase

# Ansible loads a plugin by its path, so a package that plugins share is not importable by itself.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.inventory_files import unreadable

DOCUMENTATION = r"""
name: readable_inventory
type: aggregate
short_description: Refuse an inventory that Ansible reads only in part
description:
  - Ansible warns of a hosts file that is not YAML, and ends with exit status 0. It names no file when a file of variables is not
    YAML, and takes the last of two equal keys. This ends such a run with a sentence that names file and line.
  - It ends a run whose inventory has no host, too.
options: {}
"""
REFUSED = 4  # ansible-playbook's own status for what it cannot read


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "readable_inventory"

    def v2_playbook_on_start(self, playbook) -> None:
        self._sources = [Path(source) for source in context.CLIARGS.get("inventory") or () if "," not in source]
        self._counted = False
        missing = [f"{source} does not exist. Correct -i." for source in self._sources if not source.exists()]
        self._refuse([*missing, *(sentence for source in self._sources for sentence in unreadable(source))])

    def v2_playbook_on_play_start(self, play) -> None:
        if self._counted or list(play.hosts) == ["localhost"]:
            return
        self._counted = True
        if self._sources and not play.get_variable_manager().get_vars(play=play)["groups"]["all"]:
            named = ", ".join(map(str, self._sources))
            self._refuse([f"The inventory {named} has no host. Name the fleet's hosts in its hosts.yml, or correct -i."])

    def _refuse(self, sentences: list[str]) -> None:
        if sentences:
            text = "\n".join(f"  * {sentence}" for sentence in sentences)
            self._display.error(f"Nothing was changed. This inventory cannot be used:\n{text}", wrap_text=False)
            raise SystemExit(REFUSED)
