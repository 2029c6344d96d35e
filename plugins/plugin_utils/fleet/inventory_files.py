"""What the inventory's own files hold, beside what Ansible makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

SUFFIXES = ("", ".yml", ".yaml", ".json")
ENCRYPTED = "$ANSIBLE_VAULT;"


def files_for_nobody(inventory: Path, groups: set[str], hosts: set[str]) -> Iterator[str]:
    """Sentences for variables of groups and hosts that the inventory does not have: Ansible passes over them in silence."""
    for place, kind, known in (("group_vars", "group", groups), ("host_vars", "host", hosts)):
        entries = sorted((inventory / place).iterdir()) if (inventory / place).is_dir() else []
        for entry in entries:
            name = entry.name if entry.is_dir() else entry.stem
            if entry.name.startswith(".") or (entry.is_file() and entry.suffix not in SUFFIXES) or name in known:
                continue
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Rename it, or add the {kind} to the hosts file."
            yield (
                f"{place}/{entry.name} is for the {kind} '{name}', which the inventory does not have, so it does nothing. {hint}"
            )


def vaults_in_the_clear(inventory: Path) -> Iterator[str]:
    """Sentences for vault files that anybody can read."""
    for place in ("group_vars", "host_vars"):
        for file in sorted((inventory / place).rglob("vault.y*ml")):
            text = file.read_text(encoding="utf-8")
            if text.strip() and not text.startswith(ENCRYPTED) and "!vault" not in text:
                path = file.relative_to(inventory)
                yield f"{path} is not encrypted: whoever reads the inventory has its secrets. Run: ansible-vault encrypt {path}"
