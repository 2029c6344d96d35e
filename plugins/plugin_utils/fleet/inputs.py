"""Reads a host's inputs before their types have been checked."""

from __future__ import annotations

from typing import Any

from .model import Host


def whole(value: Any) -> int | None:
    """The value as a whole number, also from text, as --extra-vars gives it; None for anything else."""
    try:
        return None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError):
        return None


def number(host: Host, name: str) -> int | None:
    return whole(host.inputs.get(name))


def numbers(host: Host, *names: str) -> list[int] | None:
    """All of them, or None if one is unknown."""
    values = [number(host, name) for name in names]
    return None if None in values else values


def mapping(host: Host, name: str) -> dict[str, Any]:
    value = host.inputs.get(name)
    return value if isinstance(value, dict) else {}


def mappings(host: Host, name: str) -> list[dict[str, Any]]:
    """The mappings in a list, or among a mapping's values."""
    value = host.inputs.get(name)
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]
