"""Whether the most verbose run (-vvv --check --diff) prints a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.playbooks import play
from lab.vault import forms, leaves


def leaked(secrets: dict[str, Any], output: str) -> list[str]:
    """Names of the secrets that are in the output, in whatever form."""
    printed = output.encode()
    return sorted({name for name, text in leaves(secrets) if any(form in printed for form in forms(text).values())})


def verbose_run(inventory: Path) -> str:
    plain = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    return play(inventory, "site.yml", "-vvv", "--check", "--diff", environment=plain)
