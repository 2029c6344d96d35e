"""Mistakes in the inventory's files that Ansible ignores."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import yaml

# libyaml, if installed, is ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

SUFFIXES = ("", ".yml", ".yaml", ".json")
ENCRYPTED = "$ANSIBLE_VAULT;"


def files_for_nobody(inventory: Path, groups: set[str], hosts: set[str]) -> Iterator[str]:
    """Sentences for variables of groups and hosts that do not exist, which Ansible silently ignores."""
    for folder, kind, known in (("group_vars", "group", groups), ("host_vars", "host", hosts)):
        entries = sorted((inventory / folder).iterdir()) if (inventory / folder).is_dir() else []
        for entry in entries:
            name = entry.name if entry.is_dir() else entry.stem
            if entry.name.startswith(".") or (entry.is_file() and entry.suffix not in SUFFIXES) or name in known:
                continue
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Rename it, or add the {kind} to the hosts file."
            yield (
                f"{folder}/{entry.name} is for the {kind} '{name}', which the inventory does not have, so it does nothing. {hint}"
            )


def vaults_in_the_clear(inventory: Path) -> Iterator[str]:
    """Sentences for vault files that are not encrypted."""
    for folder in ("group_vars", "host_vars"):
        for file in sorted((inventory / folder).rglob("vault.y*ml")):
            text = file.read_text(encoding="utf-8")
            if text.strip() and not text.startswith(ENCRYPTED) and "!vault" not in text:
                path = file.relative_to(inventory)
                yield f"{path} is not encrypted: anyone who can read it has its secrets. Run: ansible-vault encrypt {path}"


def yaml_files(source: Path) -> Iterator[Path]:
    """The YAML files of an inventory: its hosts files and variables."""
    home = source if source.is_dir() else source.parent
    # A source that is one file may also be a program or have another format.
    hosts = sorted(home.iterdir()) if source.is_dir() else [source]
    yield from (file for file in hosts if file.is_file() and file.suffix in (".yml", ".yaml") and file.name[0] != ".")
    for folder in ("group_vars", "host_vars"):
        for file in sorted((home / folder).rglob("*")):
            parts = file.relative_to(home).parts
            if file.is_file() and file.suffix in SUFFIXES and not any(part.startswith(".") for part in parts):
                yield file


def unreadable(source: Path) -> Iterator[str]:
    """Sentences for files that are not YAML, and for repeated keys."""
    for file in yaml_files(source):
        text = file.read_text(encoding="utf-8", errors="replace")
        if text.startswith(ENCRYPTED):
            continue
        try:
            root = yaml.compose(text, LOADER)
        except yaml.YAMLError as error:
            mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
            hint = " Indent with spaces, not with a tab." if "\t" in text else ""
            yield f"{file}{f', line {mark.line + 1}' if mark else ''}, is not YAML: {problem or error}.{hint} Correct it."
            continue
        for key, first, last in repeated_keys(root):
            yield (
                f"{file}, line {last}: the key '{key}' is already in line {first}, and only the last one would count. "
                f"Take one of them out."
            )


def repeated_keys(node: yaml.Node | None) -> Iterator[tuple[str, int, int]]:
    """Key, line of its first and line of its later occurrence, in every mapping below the node."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from repeated_keys(item)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                line = key.start_mark.line + 1
                if key.value in lines:
                    yield key.value, lines[key.value], line
                lines.setdefault(key.value, line)
            yield from repeated_keys(value)
