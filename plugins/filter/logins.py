"""What a secret of the vault is to the programs that use it, and to the services that accept it (plugins/fleet/rotation.py)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Ansible loads a plugin by its path, so a package that plugins share is not importable by itself.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet import rotation


def login_secrets(entries: Mapping[str, Any]) -> dict[str, str]:
    """Login to password, of every login that the service accepts now."""
    return {login: secret for name, entry in entries.items() for login, secret in rotation.accepted(entry, name).items()}


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "secret_in_use": rotation.secret_of,
            "login_in_use": rotation.login_of,
            "secret_beside": rotation.beside,
            "login_secrets": login_secrets,
            "authorities_trusted": rotation.trusted,
            "renewal_due": rotation.renews,
            "former_secrets": rotation.former,
        }
