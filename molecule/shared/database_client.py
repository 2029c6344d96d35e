"""Asks PostgreSQL and Patroni on hosts under test, and writes to the primary from one of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from deadline import until

WRITER = (Path(__file__).parent / "writer.py").read_text(encoding="utf-8")
HOME = "/run/writer"
PKI = "/etc/grunnfjell/pki"
CTL = "cd / && patronictl -c /etc/patroni/*-main.yml"


def sql(host, statement: str, database: str = "postgres") -> str:
    return host.check_output(f"runuser -u postgres -- psql -XAtqc {shlex.quote(statement)} {database}")


def version(host) -> str:
    return host.check_output("ls /usr/lib/postgresql")


@dataclass(frozen=True)
class Cluster:
    """The members of the scenario, by name; any of them may be away."""

    hosts: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, Any]]

    def parts(self) -> dict[str, dict[str, Any]]:
        """Member to its part, as `patronictl list` shows it on the first host that answers."""
        for host in self.hosts.values():
            try:
                done = host.run(f"{CTL} list --format json")
            except RuntimeError:  # the host does not answer
                continue
            if done.rc == 0:
                return {entry["Member"]: entry for entry in json.loads(done.stdout)}
        return {}

    def leader(self) -> str | None:
        names = [name for name, part in self.parts().items() if part["Role"] == "Leader" and part["State"] == "running"]
        return names[0] if names else None

    def primary(self) -> str:
        return until("there is a primary", self.leader)

    def standbys(self) -> list[str]:
        """The synchronous one first."""
        parts = self.parts()
        return sorted(
            (name for name in parts if parts[name]["Role"] != "Leader"), key=lambda name: parts[name]["Role"] == "Replica"
        )

    def in_place(self) -> bool:
        """Whether there is a leader, every standby streams on one timeline, and one of them is synchronous."""
        parts = list(self.parts().values())
        roles = [part["Role"] for part in parts]
        running = all(part["State"] in ("running", "streaming") for part in parts)
        one_history = len({part.get("TL") for part in parts}) == 1
        return (
            len(parts) == len(self.hosts) and roles.count("Leader") == 1 and "Sync Standby" in roles and running and one_history
        )

    def wait_in_place(self, seconds: float = 120) -> None:
        until("all members are in their place", self.in_place, seconds)

    def unit(self, name: str) -> str:
        return f"patroni@{version(self.hosts[name])}-main.service"


class DisturbedCluster(Cluster):
    """For tests that change data or end processes; those that only read take Cluster."""

    def kill_server(self, name: str) -> None:
        self.hosts[name].check_output("kill -9 $(head -1 /var/lib/postgresql/*/main/postmaster.pid)")

    def new_table(self) -> None:
        """An empty table for the writer, on the primary."""
        host = self.hosts[self.primary()]
        sql(host, "SET ROLE news; DROP TABLE IF EXISTS acknowledged; CREATE TABLE acknowledged (number bigint)", "news")


@dataclass
class Writer:
    """Commits rows on the primary from `host`: to whichever member takes writes, or through HAProxy on the host."""

    host: Any
    inputs: Mapping[str, Any]

    def start(self, seconds: float, through_haproxy: bool = False) -> None:
        where = f"host={','.join(self.inputs['patroni_members'].values())} port={self.inputs['patroni_port']}"
        if through_haproxy:
            where = (
                f"host={self.inputs['postgresql_names'][0]} port={self.inputs['haproxy_listeners'][0]['bind'].rpartition(':')[2]}"
            )
        string = (
            f"{where} dbname=news user=news connect_timeout=2 "
            f"password={self.inputs['postgresql_role_passwords']['news']} target_session_attrs=read-write sslmode=verify-full "
            f"sslrootcert={PKI}/authorities.pem sslcert={PKI}/patroni/certificate.pem sslkey={PKI}/patroni/key.pem "
            "tcp_user_timeout=3000"
        )
        self.host.check_output(f"systemctl stop writer 2>/dev/null; rm -rf {HOME} && install -d -o postgres -m 700 {HOME}")
        for name, text in (("writer.py", WRITER), ("dsn", string)):
            self.host.check_output(f"printf %s {shlex.quote(text)} > {HOME}/{name} && chown postgres {HOME}/{name}")
        program = f"python3 {HOME}/writer.py {HOME} {seconds}"
        self.host.check_output(f"systemd-run --quiet --collect --unit=writer --uid=postgres {program}")
        until("the first rows are acknowledged", lambda: len(self.acknowledged()) > 20 or self.errors() > 50)
        assert len(self.acknowledged()) > 20, self.host.check_output(f"tail -n 1 {HOME}/errors")

    def acknowledged(self) -> dict[int, float]:
        """Number of each acknowledged row to the time of the answer."""
        lines = self.host.run(f"cat {HOME}/notes").stdout.splitlines()
        return {int(number): float(at) for number, at in (line.split() for line in lines if line.count(" ") == 1)}

    def errors(self) -> int:
        return int(self.host.run(f"wc -l < {HOME}/errors").stdout or 0)

    def finish(self, what: str, longest: float, stop: bool = False) -> None:
        """Prints what the fault cost, and fails if an acknowledged row is lost or writes stood still for longer, in seconds.

        stop: end the writer now, instead of after its time.
        """
        if stop:
            self.host.check_output(f"touch {HOME}/stop")
        until("the writer has ended", lambda: self.host.run("systemctl is-active writer").rc != 0, 600)
        noted = self.acknowledged()
        kept = {int(line) for line in sql(self.host, "SELECT number FROM acknowledged", "news").splitlines()}
        lost = set(noted) - kept
        gap = max((later - earlier for earlier, later in pairwise(sorted(noted.values()))), default=0.0)
        print(f"{what}: {len(noted)} rows acknowledged, {len(lost)} lost, {self.errors()} errors, {gap:.1f} s without an answer")
        assert len(noted) > 100 and not lost and gap <= longest
