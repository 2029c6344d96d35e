"""A host's inputs as the account reads them, which is done before anybody has judged their types."""

from __future__ import annotations

from typing import Any

from .model import Host


def whole(value: Any) -> int | None:
    """A whole number, which --extra-vars gives as text; None for anything else."""
    try:
        return None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError):
        return None


def number(host: Host, name: str) -> int | None:
    return whole(host.inputs.get(name))


def numbers(host: Host, *names: str) -> list[int] | None:
    """All of them, or None as soon as one is unknown: half an account would be a wrong one."""
    found = [number(host, name) for name in names]
    return None if None in found else found


def mapping(host: Host, name: str) -> dict[str, Any]:
    value = host.inputs.get(name)
    return value if isinstance(value, dict) else {}


def mappings(host: Host, name: str) -> list[dict[str, Any]]:
    """The dictionaries in a list, or among a dictionary's values."""
    value = host.inputs.get(name)
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]
