"""Creates the secrets that are missing in an inventory's encrypted vault."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils.trust import vault_file
from ..plugin_utils.trust.pki import new_authority

DOCUMENTATION = r"""
module: vault_secrets
short_description: Create the secrets that are missing in an inventory's vault
description:
  - Each is random, created once, and written to one file that Ansible Vault encrypts with the password of
    C(vault_password_file). Existing secrets never change. Prints no secret.
options:
  path: {description: The vault's file., type: path, required: true}
  secrets:
    description: >-
      Variable to the list of names that it maps to one secret each; with an empty list the variable is one secret. A mapping
      with C(authorities), a list of names, creates a certificate authority for each.
    type: dict
    required: true
author: maintainers
"""

BYTES = 32  # 256 bits


def complete(held: dict[str, Any], wanted: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The completed vault, and the names of the new secrets."""
    vault, created = dict(held), []
    for variable, entry in wanted.items():
        authorities = isinstance(entry, dict)
        names = [str(name) for name in (entry["authorities"] if authorities else entry)]
        if not names:
            if variable not in vault:
                vault[variable] = secrets.token_hex(BYTES)
                created.append(variable)
            continue
        known = dict(vault.get(variable) or {})
        for name in names:
            if name not in known:
                known[name] = new_authority(name) if authorities else secrets.token_hex(BYTES)
                created.append(f"{variable}.{name}")
        vault[variable] = known
    return vault, created


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        path = Path(self._task.args["path"])
        vault = vault_file.opened(self._loader._vault.secrets)
        held = vault_file.read(path, vault) if path.exists() else {}
        content, made = complete(held, {str(key): entry for key, entry in self._task.args["secrets"].items()})
        result |= {"changed": bool(made), "made": made}
        if made and not self._task.check_mode:
            vault_file.write(path, vault, content)
        return result
