"""Asks PostgreSQL and Patroni on hosts under test, and writes to the primary from one of them."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from deadline import until

WRITER = (Path(__file__).parent / "writer.py").read_text(encoding="utf-8")
NOTES = "/tmp/acknowledged"
PKI = "/etc/grunnfjell/pki"


def sql(host, statement: str, database: str = "postgres") -> str:
    return host.check_output(f"runuser -u postgres -- psql -XAtqc {shlex.quote(statement)} {database}")


def parts(host) -> dict[str, dict[str, Any]]:
    """Member to its part, as `patronictl list` shows it."""
    command = "patronictl -c /etc/patroni/*-main.yml list --format json"
    done = host.run(f"cd / && {command}")
    return {entry["Member"]: entry for entry in json.loads(done.stdout)} if done.rc == 0 else {}


def primary(host) -> str | None:
    return next((name for name, part in parts(host).items() if part["Role"] == "Leader" and part["State"] == "running"), None)


def in_place(host, members: int = 3) -> bool:
    """Whether there is a leader, every standby streams, and one of them is synchronous."""
    seen = parts(host)
    roles = [part["Role"] for part in seen.values()]
    running = all(part["State"] in ("running", "streaming") for part in seen.values())
    return len(seen) == members and roles.count("Leader") == 1 and "Sync Standby" in roles and running


@dataclass
class Writer:
    """Commits rows on the primary from `host`."""

    host: Any
    inputs: dict[str, Any]

    def start(self, seconds: float) -> None:
        addresses = ",".join(self.inputs["patroni_members"].values())
        string = (
            f"host={addresses} port={self.inputs['patroni_port']} dbname=news user=news connect_timeout=2 "
            f"password={self.inputs['postgresql_role_passwords']['news']} target_session_attrs=read-write sslmode=verify-full "
            f"sslrootcert={PKI}/authorities.pem sslcert={PKI}/patroni/certificate.pem sslkey={PKI}/patroni/key.pem "
            "tcp_user_timeout=3000"
        )
        self.host.check_output(
            f"printf %s {shlex.quote(WRITER)} > /tmp/writer.py; printf %s {shlex.quote(string)} > /tmp/writer.dsn"
        )
        self.host.check_output(f"chown postgres /tmp/writer.*; rm -f {NOTES}; chmod 600 /tmp/writer.dsn")
        self.host.check_output(
            "systemd-run --quiet --collect --unit=writer --uid=postgres "
            f"sh -c 'exec python3 /tmp/writer.py {NOTES} {seconds} < /tmp/writer.dsn'"
        )
        until("the first rows are acknowledged", lambda: len(self.acknowledged()) > 20)

    def acknowledged(self) -> dict[int, float]:
        """Number of each acknowledged row to the time of the answer."""
        lines = self.host.run(f"cat {NOTES}").stdout.splitlines()
        return {int(number): float(at) for number, at in (line.split() for line in lines if line.count(" ") == 1)}

    def finish(self) -> tuple[int, set[int], float]:
        """The number of acknowledged rows, those of them that are lost, and the longest time without one, in seconds."""
        until("the writer has ended", lambda: self.host.run("systemctl is-active writer").rc != 0, 240)
        noted = self.acknowledged()
        kept = {int(line) for line in sql(self.host, "SELECT number FROM acknowledged", "news").splitlines()}
        times = sorted(noted.values())
        gap = max((later - earlier for earlier, later in pairwise(times)), default=0.0)
        return len(noted), set(noted) - kept, gap
