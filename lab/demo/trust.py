"""The authorities that the lab's clients trust: only those of the fleets that this process has read."""

from __future__ import annotations

import ssl

_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def believe(authorities: str) -> None:
    """Trust these authorities too; certificates in PEM."""
    if authorities.strip():
        _context.load_verify_locations(cadata=authorities)


def context() -> ssl.SSLContext:
    """For every connection of a client; names and addresses are verified."""
    return _context
