"""Makes the secrets that an inventory's encrypted vault lacks."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils.trust import vault_file
from ..plugin_utils.trust.pki import new_authority

DOCUMENTATION = r"""
module: vault_secrets
short_description: Make the secrets that an inventory's vault lacks
description:
  - Each is random, made once, and written to one file that Ansible's vault encrypts with the password of
    C(vault_password_file). What the vault already holds never changes. Prints no secret.
options:
  path: {description: The vault's file., type: path, required: true}
  secrets:
    description: >-
      Variable to the list of names that it maps to a secret each; an empty list makes the variable one secret. A mapping with
      C(authorities), a list of names, makes an authority of each, which signs certificates.
    type: dict
    required: true
author: maintainers
"""

BYTES = 32  # 256 bits


def complete(held: dict[str, Any], wanted: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The vault with what it lacked, and the names of what was made."""
    vault, made = dict(held), []
    for variable, entry in wanted.items():
        authorities = isinstance(entry, dict)
        names = [str(name) for name in (entry["authorities"] if authorities else entry)]
        if not names:
            if variable not in vault:
                vault[variable] = secrets.token_hex(BYTES)
                made.append(variable)
            continue
        known = dict(vault.get(variable) or {})
        for name in names:
            if name not in known:
                known[name] = new_authority(name) if authorities else secrets.token_hex(BYTES)
                made.append(f"{variable}.{name}")
        vault[variable] = known
    return vault, made


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
