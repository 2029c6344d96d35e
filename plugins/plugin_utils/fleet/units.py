"""Sizes as the kit reads and writes them."""

from __future__ import annotations

MIB = 1024**2


def mib(size: int) -> str:
    """A size in bytes as a person reads it; small ones are factors of something, so a tenth matters.

    >>> mib(16 * MIB), mib(1572864)
    ('16 MiB', '1.5 MiB')
    """
    return f"{size / MIB:.1f} MiB".replace(".0 ", " ") if size < 10 * MIB else f"{size / MIB:.0f} MiB"
