"""Whom the lab's clients believe: the authorities of the fleets that this process has read, and nobody else."""

from __future__ import annotations

import ssl

_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def believe(authorities: str) -> None:
    """Certificates of authorities, in PEM; those believed before stay."""
    if authorities.strip():
        _context.load_verify_locations(cadata=authorities)


def context() -> ssl.SSLContext:
    """For every connection of a client; names and addresses are verified."""
    return _context
