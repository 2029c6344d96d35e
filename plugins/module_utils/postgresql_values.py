"""Compares wanted values of PostgreSQL's settings with running ones."""

from __future__ import annotations

import re

UNITS = {"": 1, "B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}


def in_bytes(value, default_unit):
    """Bytes of '256MB', or of '32768' in a unit such as '8kB'; None if it is not a size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB)?\s*", value)
    base = re.fullmatch(r"(\d*)(B|kB|MB|GB|TB)?", default_unit)
    if not match or not base:
        return None
    if match[2]:
        return float(match[1]) * UNITS[match[2]]
    return float(match[1]) * int(base[1] or 1) * UNITS[base[2] or ""]


def same_value(kind, unit, running, wanted):
    """Whether the running value equals the wanted one, whatever their units and spelling."""
    if kind == "bool":
        truth = {"on": True, "true": True, "yes": True, "1": True}
        return truth.get(running.lower(), False) == truth.get(wanted.lower(), False)
    if kind in ("integer", "real"):
        left, right = in_bytes(running, unit), in_bytes(wanted, unit)
        if left is not None and right is not None:
            return int(left) == int(right)
    return running == wanted


def predict_restart(wanted, postmaster):
    """Names of changed settings that the server reads only when it starts."""
    return sorted(
        name
        for name, value in wanted.items()
        if name in postmaster
        and not same_value(postmaster[name]["type"], postmaster[name]["unit"], postmaster[name]["value"], value)
    )
