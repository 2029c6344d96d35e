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
    return yaml.safe_load(vault.decrypt(path.read_bytes())) or {}


def write(path: Path, vault: VaultLib, content: dict[str, Any]) -> None:
    """Writes atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(vault.encrypt(yaml.safe_dump(content, sort_keys=True)))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
