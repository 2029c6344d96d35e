"""The version of the kit that last ran on this host, as role host records it."""

from __future__ import annotations

PATH = "/etc/grunnfjell/version"


def recorded(path: str = PATH) -> str | None:
    """The last line that is not a comment; None on a host that no version since 1.0 has set up."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file if not line.startswith("#")]
    except (OSError, ValueError):
        return None
    return next((line for line in reversed(lines) if line), None)
