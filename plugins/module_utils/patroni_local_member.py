"""A member of a Patroni cluster on this host: its server, its units, and what Patroni's REST API answers about it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import patroni, patroni_roles, psql
from .patroni import Api, PatroniError, leader_of
from .postgresql_state import OF_A_NEW_CLUSTER
from .waiting import until
from .whole_files import ManagedFile, journal, write_files

# Seconds for which a copy may fail to start, as while the primary does not let it in yet.
FAILING_S = 60.0
# Seconds for which etcd may be away, as while its members restart one at a time.
WITHOUT_ETCD_S = 30.0


class LocalMember:
    def __init__(self, module: AnsibleModule) -> None:
        params = module.params
        self.module, self.name, self.reports = module, params["name"], params["reports"]
        self.members, self.api = params["members"], Api(params["members"], params["port"])
        version = params["version"]
        self.data = Path(f"/var/lib/postgresql/{version}/main")
        self.etc = Path(f"/etc/postgresql/{version}/main")
        self.unit, self.single = f"patroni@{version}-main.service", f"postgresql@{version}-main.service"
        self.did: list[str] = []
        self.failing_since: float | None = None

    def do(self, what: str) -> bool:
        """Notes a change; returns whether to make it."""
        self.did.append(what)
        return not self.module.check_mode

    def until(self, look: Callable[[], Any], seconds: float | None = None) -> Any:
        """The first true result, or the last one after I(timeout) or these seconds."""
        return until(look, self.module.params["timeout"] if seconds is None else seconds)

    def systemctl(self, *arguments: str) -> str:
        rc, out, err = self.module.run_command(["systemctl", *arguments])
        if rc and arguments[0] not in ("is-active", "is-enabled"):
            raise PatroniError(f"systemctl {' '.join(arguments)} failed: {err.strip()}")
        return out.strip()

    def runs(self, unit: str) -> bool:
        return self.systemctl("is-active", unit) in ("active", "activating", "reloading")

    def sql(self, script: str) -> str:
        try:
            return psql.superuser(script, self.module.params["postgresql_port"])
        except psql.PsqlError as error:
            raise PatroniError(f"PostgreSQL could not be queried: {error}") from error

    def server(self) -> dict[str, Any] | None:
        return patroni_roles.state(self.module.params["postgresql_port"])

    def own(self) -> dict[str, Any]:
        # hand_over enables the unit, so a host with a new disk or a new system does not count as a member.
        managed = (self.data / "PG_VERSION").exists() and self.systemctl("is-enabled", self.unit) == "enabled"
        base = self.data / "base"
        databases = {entry.name for entry in base.iterdir() if entry.name.isdigit()} if base.is_dir() else set()
        return {"managed": managed, "filled": bool(databases), "databases": bool(databases - OF_A_NEW_CLUSTER)}

    def make_roles(self) -> None:
        """The roles of replication and pg_rewind, before standbys need them."""
        if not self.runs(self.single):
            self.systemctl("start", self.single)
        state = self.until(self.server)
        if not state:
            raise PatroniError(f"{self.single} does not answer. Look at its log in /var/log/postgresql")
        for name in patroni_roles.missing(state):
            self.sql(patroni_roles.CREATE[name])

    def hand_over(self) -> None:
        """From systemd's unit of a single server to Patroni's, also at boot. While neither runs, every client waits."""
        start = ManagedFile(str(self.etc / "start.conf"), "manual\n", "postgres", "postgres", 0o644)
        write_files([start], check_mode=False)
        self.systemctl("daemon-reload")
        if self.runs(self.single):
            self.systemctl("stop", self.single)
        self.systemctl("enable", "--now", self.unit)

    def require_etcd(self) -> None:
        """Before anything changes: without etcd no member takes over from another one that restarts."""

        def reached() -> bool:
            own = self.api.member(self.name)
            return own is None or (not patroni.without_etcd(own) and self.api.cluster([self.name]) is not None)

        if not self.until(reached, WITHOUT_ETCD_S):
            raise PatroniError(
                f"{self.name} does not reach etcd, so nothing is changed: nobody could become the primary. Start etcd's "
                f"members, and run again"
            )

    def in_place(self) -> bool:
        part = (self.api.cluster([self.name]) or {}).get(self.name, {})
        return part.get("state") in patroni.STREAMING

    def copied(self) -> bool:
        """Whether the copy streams. Patroni tries again and again to start a server that cannot."""
        state = (self.api.member(self.name) or {}).get("state")
        self.failing_since = (self.failing_since or time.monotonic()) if state == "start failed" else None
        if self.failing_since and time.monotonic() - self.failing_since > FAILING_S:
            log = journal(self.module, self.unit)
            # Patroni lets a copy that does not start recover alone (`postgres --single`), and then its history has forked.
            self.systemctl("disable", "--now", self.unit)
            shutil.rmtree(self.data)
            raise PatroniError(f"{self.name} has a copy that does not start, so the copy was removed. Its journal:\n{log}")
        return self.in_place()

    def wait_for(self, what: str, look: Callable[[], Any], seconds: float | None = None) -> None:
        if not self.until(look, seconds):
            raise PatroniError(
                f"{self.name} is not in its place as {what} after {seconds or self.module.params['timeout']} s. The end of its "
                f"journal:\n{journal(self.module, self.unit)}"
            )

    def leading(self) -> dict[str, dict[str, Any]] | None:
        cluster = self.api.cluster([self.name])
        return cluster if leader_of(cluster) else None

    def synchronous(self) -> list[str]:
        """The synchronous standbys that stream."""
        parts = self.api.cluster([self.name]) or {}
        return [
            name for name, part in parts.items() if (part["role"], part["state"] in patroni.STREAMING) == ("sync_standby", True)
        ]

    def patch(self, change: dict[str, Any]) -> None:
        if change and self.do(f"set {', '.join(patroni.keys_of(change))}"):
            status, answer = self.api.ask(self.name, "/config", "PATCH", change)
            if status != 200:
                raise PatroniError(f"Patroni refuses the dynamic configuration with {status}: {answer}. Edit patroni_parameters")

    def restart_for(self) -> list[str]:
        """What the running server has to be restarted for."""
        state = self.server() or {"pending": []}
        part = self.api.member(self.name) or {}
        return state["pending"] or (["a setting of Patroni"] if part.get("pending_restart") else [])

    def lowers_connections(self) -> bool:
        """Whether the server is to have fewer connections than now. A standby may never have fewer than the primary."""
        wanted = self.module.params["dynamic"]["postgresql"]["parameters"]["max_connections"]
        return int(wanted) < int(self.sql("SHOW max_connections"))

    def primary_has_more(self) -> bool:
        """Whether the primary, as its log shows to this standby, still has more connections than wanted."""
        program = f"/usr/lib/postgresql/{self.module.params['version']}/bin/pg_controldata"
        _, out, _ = self.module.run_command([program, str(self.data)], environ_update={"LC_ALL": "C"}, check_rc=True)
        seen = next(line.split(":")[1] for line in out.splitlines() if line.startswith("max_connections setting"))
        return int(seen) > int(self.module.params["dynamic"]["postgresql"]["parameters"]["max_connections"])

    def switch_over(self, candidate: str) -> None:
        body = {"leader": self.name, "candidate": candidate}
        status, answer = self.api.ask(self.name, "/switchover", "POST", body, timeout=self.module.params["timeout"])
        if status not in (200, 202):
            raise PatroniError(f"{self.name} could not switch over to {candidate}: {answer}")
        self.wait_for("standby", lambda: leader_of(self.api.cluster([candidate])) == candidate and self.in_place())

    def restart_here(self, note: bool = True) -> None:
        reasons = self.restart_for()
        if not reasons or (note and not self.do(f"restarted for {', '.join(reasons)}")):
            return
        answer: Any = None

        def restarted() -> bool:
            """Patroni refuses while it starts the server by itself, as after a moment without etcd. That may be enough."""
            nonlocal answer
            try:
                status, answer = self.api.ask(self.name, "/restart", "POST", {}, timeout=self.module.params["timeout"])
            except PatroniError as error:
                status, answer = 0, error
            return status == 200 or (self.server() is not None and not self.restart_for())

        if not self.until(restarted):
            raise PatroniError(f"{self.name} could not be restarted: {answer}")
        # A standby keeps a larger max_connections until the primary has the smaller one: a second pass restarts it again.
        self.wait_for("member", self.in_place)
