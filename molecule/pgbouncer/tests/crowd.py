"""Many clients at once: each logs in by SCRAM and stays; then each runs one query.

usage: crowd.py HOST PORT USER DATABASE PASSFILE COUNT     prints {"connected", "answered", "refused"} as JSON
PASSFILE is in libpq's format; its first line holds the password.
"""

from __future__ import annotations

import json
import resource
import secrets
import struct
import sys

from postgresql_wire import dial, final, first, message, reason, startup


class Client:
    def __init__(self, address: tuple[str, int], user: str, database: str, password: str) -> None:
        self.socket = dial(address, 60)
        self.stream = self.socket.makefile("rb")
        self.socket.sendall(startup(("user", user), ("database", database)))
        self.until(b"R")  # AuthenticationSASL
        bare = f"n=,r={secrets.token_urlsafe(18)}"
        self.socket.sendall(first(bare))
        self.socket.sendall(final(bare, self.until(b"R")[4:].decode(), password))
        self.until(b"Z")

    def read(self) -> tuple[bytes, bytes]:
        kind = self.stream.read(1)
        if not kind:
            raise ConnectionError("closed by the server")
        body = self.stream.read(struct.unpack("!I", self.stream.read(4))[0] - 4)
        if kind == b"E":
            raise ConnectionError(reason(body))
        return kind, body

    def until(self, expected: bytes) -> bytes:
        while True:
            kind, body = self.read()
            if kind == expected:
                return body

    def query(self) -> bool:
        self.socket.sendall(message(b"Q", b"SELECT 1\0"))
        return self.until(b"D").endswith(b"1") and self.until(b"Z") == b"I"


def main() -> None:
    host, port, user, database, passfile, count = sys.argv[1:]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * int(count) + 100)), hard))
    with open(passfile, encoding="utf-8") as handle:
        password = handle.readline().rstrip("\n").split(":", 4)[4]
    clients, refused = [], ""
    for _ in range(int(count)):
        try:
            clients.append(Client((host, int(port)), user, database, password))
        except OSError as error:
            refused = str(error)
            break
    answered = sum(client.query() for client in clients)
    print(json.dumps({"connected": len(clients), "answered": answered, "refused": refused}))


main()
