"""SCRAM verifiers as PostgreSQL stores them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

# Upstream's default; RFC 7677 asks for at least this.
SCRAM_ITERATIONS = 4096


def scram_verifier(password, salt=None, iterations=SCRAM_ITERATIONS):
    """The verifier of RFC 5803 that PostgreSQL stores."""
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode("ascii") for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{text[0]}${text[1]}:{text[2]}"


def password_matches(verifier, password):
    """Whether a stored verifier is that of the password; False for an md5 hash or none."""
    if not verifier or not verifier.startswith("SCRAM-SHA-256$"):
        return False
    try:
        iterations, salt = verifier.split("$")[1].split(":")
        expected = scram_verifier(password, base64.b64decode(salt), int(iterations))
    except (ValueError, IndexError):
        return False
    return hmac.compare_digest(expected, verifier)
