"""The encrypted file that holds an inventory's secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib


def opened(secrets: Any) -> VaultLib:
    """secrets: the loader's vault secrets."""
    vault = VaultLib(secrets)
    if not vault.secrets:
        raise AnsibleError("There is no vault password. Run `make setup`, or name a vault_password_file.")
    return vault


def read(path: Path, vault: VaultLib) -> dict[str, Any]:
    try:
        text = vault.decrypt(path.read_bytes())
    except AnsibleError as error:
        reason = "Name its password by vault_password_file, or restore it from a backup; nothing was changed"
        raise AnsibleError(f"{path} cannot be read. {reason}") from error
    return yaml.safe_load(text) or {}


def write(path: Path, vault: VaultLib, content: dict[str, Any]) -> None:
    """Writes atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)  # of a killed run, perhaps with another mode
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(vault.encrypt(yaml.safe_dump(content, sort_keys=True)))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise AnsibleError(f"{path} was not changed") from error
