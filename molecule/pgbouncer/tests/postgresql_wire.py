"""PostgreSQL's protocol as far as a login by SCRAM needs it, with only the standard library, because it runs on the hosts."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import os
import socket
import ssl
import struct

CONTEXT = ssl.create_default_context(cafile=os.environ.get("PGSSLROOTCERT"))
if "PGSSLCERT" in os.environ:
    CONTEXT.load_cert_chain(os.environ["PGSSLCERT"], os.environ["PGSSLKEY"])


def dial(address: tuple[str, int], timeout_s: float) -> socket.socket:
    """A connection, over TLS if libpq's environment variables ask for it."""
    plain = socket.create_connection(address, timeout=timeout_s)
    if os.environ.get("PGSSLMODE") != "verify-full":
        return plain
    plain.sendall(struct.pack("!II", 8, 80877103))
    if plain.recv(1) != b"S":
        raise ConnectionError("the server speaks no TLS")
    return CONTEXT.wrap_socket(plain, server_hostname=address[0])


def startup(*pairs: tuple[str, str]) -> bytes:
    body = b"".join(f"{key}\0{value}\0".encode() for key, value in pairs) + b"\0"
    return struct.pack("!II", len(body) + 8, 196608) + body


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def reason(body: bytes) -> str:
    """The message of an error."""
    return {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}.get(b"M", "?")


def first(bare: str) -> bytes:
    """The client's first message of SCRAM. bare: what RFC 5802 calls client-first-message-bare."""
    body = ("n,," + bare).encode()
    return message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(body)) + body)


@functools.cache
def salted(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


def final(bare: str, challenge: str, password: str) -> bytes:
    """The client's last message: the proof that it knows the password."""
    parts = dict(item.split("=", 1) for item in challenge.split(","))
    key = hmac.digest(salted(password, base64.b64decode(parts["s"]), int(parts["i"])), b"Client Key", "sha256")
    unproved = f"c=biws,r={parts['r']}"
    signature = hmac.digest(hashlib.sha256(key).digest(), ",".join((bare, challenge, unproved)).encode(), "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
    return message(b"p", f"{unproved},p={proof}".encode())
