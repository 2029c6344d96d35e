"""Many clients at once, with nothing but Python's own library: log in by SCRAM, stay, then each runs one query.

usage: crowd.py HOST PORT USER DATABASE PASSFILE COUNT     prints {"connected", "answered", "refused"} as JSON
PASSFILE is in libpq's format; its first line holds the password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import resource
import secrets
import socket
import ssl
import struct
import sys

CONTEXT = ssl.create_default_context(cafile=os.environ.get("PGSSLROOTCERT"))
if "PGSSLCERT" in os.environ:
    CONTEXT.load_cert_chain(os.environ["PGSSLCERT"], os.environ["PGSSLKEY"])

SALTED: dict[tuple[bytes, int], bytes] = {}


def dial(address: tuple[str, int], timeout_s: float) -> socket.socket:
    """A connection, by TLS where libpq's variables in the environment say so."""
    plain = socket.create_connection(address, timeout=timeout_s)
    if os.environ.get("PGSSLMODE") != "verify-full":
        return plain
    plain.sendall(struct.pack("!II", 8, 80877103))
    if plain.recv(1) != b"S":
        raise ConnectionError("it speaks no TLS")
    return CONTEXT.wrap_socket(plain, server_hostname=address[0])


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


class Client:
    def __init__(self, address: tuple[str, int], user: str, database: str, password: str) -> None:
        self.socket = dial(address, 60)
        self.stream = self.socket.makefile("rb")
        pairs = f"user\0{user}\0database\0{database}\0\0".encode()
        self.socket.sendall(struct.pack("!II", len(pairs) + 8, 196608) + pairs)
        self.log_in(password)

    def read(self) -> tuple[bytes, bytes]:
        kind = self.stream.read(1)
        if not kind:
            raise ConnectionError("closed by the server")
        body = self.stream.read(struct.unpack("!I", self.stream.read(4))[0] - 4)
        if kind == b"E":
            fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
            raise ConnectionError(fields.get(b"M", "?"))
        return kind, body

    def until(self, wanted: bytes) -> bytes:
        while True:
            kind, body = self.read()
            if kind == wanted:
                return body

    def log_in(self, password: str) -> None:
        self.until(b"R")  # AuthenticationSASL
        nonce = secrets.token_urlsafe(18)
        bare = f"n=,r={nonce}"
        first = ("n,," + bare).encode()
        self.socket.sendall(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
        challenge = self.until(b"R")[4:].decode()
        parts = dict(item.split("=", 1) for item in challenge.split(","))
        key = (base64.b64decode(parts["s"]), int(parts["i"]))
        if key not in SALTED:
            SALTED[key] = hashlib.pbkdf2_hmac("sha256", password.encode(), *key)
        client_key = hmac.digest(SALTED[key], b"Client Key", "sha256")
        final = f"c=biws,r={parts['r']}"
        signed = ",".join((bare, challenge, final)).encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
        self.socket.sendall(message(b"p", f"{final},p={proof}".encode()))
        self.until(b"Z")

    def one(self) -> bool:
        self.socket.sendall(message(b"Q", b"SELECT 1\0"))
        return self.until(b"D").endswith(b"1") and self.until(b"Z") == b"I"


def main() -> None:
    host, port, user, database, passfile, count = sys.argv[1:]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * int(count) + 100)), hard))
    with open(passfile, encoding="utf-8") as handle:
        password = handle.readline().rstrip("\n").split(":", 4)[4]
    crowd, refused = [], ""
    for _ in range(int(count)):
        try:
            crowd.append(Client((host, int(port)), user, database, password))
        except OSError as error:
            refused = str(error)
            break
    answered = sum(client.one() for client in crowd)
    print(json.dumps({"connected": len(crowd), "answered": answered, "refused": refused}))


main()
