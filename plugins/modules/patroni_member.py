#!/usr/bin/python3
"""Adopts a server into a Patroni cluster, copies it to blank hosts, and restarts members one at a time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_member
short_description: Keep a host a member of a Patroni cluster
description:
  - One step of a run, on every member. C(report) answers which data the host has. C(adopt) hands the single server with data, or
    the first of blank ones, over to Patroni, and starts members that were stopped. C(copy) lets a host without databases copy the
    primary. C(settle) changes keys of the dynamic configuration that differ, and turns strict mode on once a standby is
    synchronous. C(restart_standby) and C(restart_primary) restart a member whose server waits for it, the primary after a
    switchover. C(check) fails unless there is one leader, and all members stream.
  - Everything is asked of the running services, so the next run completes an interrupted one.
options:
  step:
    description: What to do.
    type: str
    required: true
    choices: [report, adopt, copy, settle, restart_standby, restart_primary, check]
  name: {description: Name of this host's member., type: str, required: true}
  members: {description: Name of each member to its address., type: dict, required: true}
  port: {description: TCP port of the REST API., type: int, required: true}
  version: {description: Major version of PostgreSQL., type: str, required: true}
  postgresql_port: {description: TCP port of PostgreSQL., type: int, required: true}
  reports: {description: 'Name to the answer of step report, of each member in this run.', type: dict, default: {}}
  dynamic: {description: Keys of the dynamic configuration., type: dict, default: {}}
  timeout: {description: Seconds until a member must be in its place., type: int, default: 120}
author: maintainers
attributes:
  check_mode: {support: full, description: Predicts adoption, copies, changed keys and restarts.}
"""

EXAMPLES = r"""
- name: Ask which data the host has
  patroni_member:
    step: report
    name: db1
    members: {db1: 10.0.0.21, db2: 10.0.0.22}
    port: 8008
    version: "17"
    postgresql_port: 5432
"""

RETURN = r"""
report:
  description: 'Of step report: managed (by Patroni), databases (whether it has any besides those of a new cluster), restart_for.'
  type: dict
  returned: success
did: {description: What was done., returned: success, type: list, elements: str}
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import patroni, patroni_roles, psql
from ..module_utils.patroni import Api, PatroniError, leader_of
from ..module_utils.whole_files import ManagedFile, journal, usual_umask, write_files

# Directories of the databases in a cluster that nobody has used: template1, template0 and postgres.
OF_A_NEW_CLUSTER = {"1", "4", "5"}
# Seconds for which a copy may fail to start, as while the primary does not let it in yet.
FAILING_S = 60.0


class Step:
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
        """The first true result, or the last one at the deadline."""
        deadline = time.monotonic() + (self.module.params["timeout"] if seconds is None else seconds)
        while not (result := look()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return result

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
        # hand_over enables the unit, so a host whose disk or machine is new is none of the cluster's.
        managed = (self.data / "PG_VERSION").exists() and self.systemctl("is-enabled", self.unit) == "enabled"
        base = self.data / "base"
        databases = {entry.name for entry in base.iterdir() if entry.name.isdigit()} if base.is_dir() else set()
        return {"managed": managed, "filled": bool(databases), "databases": bool(databases - OF_A_NEW_CLUSTER)}

    def report(self) -> dict[str, Any]:
        rules = self.etc / "grunnfjell_hba.conf"
        if not rules.exists() and not self.module.check_mode:
            raise PatroniError(
                f"{self.name} has no {rules}, which role postgresql writes. Run site.yml or playbooks/postgresql.yml"
            )
        return self.own()

    def adopt(self) -> None:
        own = self.own()
        if own["managed"]:
            if not self.runs(self.unit) and self.do("started"):
                self.hand_over()
        elif patroni.first_primary(self.members, self.reports) == self.name and self.do("adopted its server"):
            self.make_roles()
            if self.runs(self.single):
                self.systemctl("stop", self.single)
            self.hand_over()
            self.wait_for("leader", lambda: leader_of(self.api.cluster([self.name])) == self.name)
            self.begin_settled()

    def begin_settled(self) -> None:
        """Before the first copy: a lowered max_connections would else need every member to restart twice."""
        dynamic = self.module.params["dynamic"]
        # Until the new leader has written its first configuration, Patroni answers 503.
        self.wait_for("leader", lambda: self.api.ask(self.name, "/config", "PATCH", dynamic)[0] == 200)
        wanted = dynamic["postgresql"]["parameters"]["max_connections"]
        if self.sql("SHOW max_connections").strip() != str(wanted):
            self.wait_for("leader", lambda: (self.api.member(self.name) or {}).get("pending_restart"))
            self.restart_here(note=False)

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
        """From systemd's unit of a single server to Patroni's, also at boot."""
        start = ManagedFile(str(self.etc / "start.conf"), "manual\n", "postgres", "postgres", 0o644)
        write_files([start], check_mode=False)
        self.systemctl("daemon-reload")
        self.systemctl("enable", "--now", self.unit)

    def copy(self) -> None:
        own = self.own()
        if own["managed"]:
            if not self.module.check_mode:
                self.wait_for("member", self.in_place)
            return
        if self.module.check_mode and patroni.first_primary(self.members, self.reports) == self.name:
            return  # predicted by step adopt
        if own["databases"]:
            raise PatroniError(
                f"{self.name} has databases of another server, and a copy of the primary would take their place. If they are not "
                f"needed, move {self.data} away, and run again"
            )
        if self.do("copied the primary"):
            if self.runs(self.single):
                self.systemctl("stop", self.single)
            if own["filled"]:
                # Debian's package made it, and no database was ever created in it.
                shutil.rmtree(self.data)
            self.hand_over()
            self.wait_for("copy", self.copied, 900)

    def copied(self) -> bool:
        """Whether the copy streams. Patroni tries again and again to start a server that cannot."""
        state = (self.api.member(self.name) or {}).get("state")
        self.failing_since = (self.failing_since or time.monotonic()) if state == "start failed" else None
        if self.failing_since and time.monotonic() - self.failing_since > FAILING_S:
            log = journal(self.module, self.unit)
            # Patroni lets a copy that does not start recover alone (`postgres --single`), which gives it a history that no other has.
            self.systemctl("disable", "--now", self.unit)
            shutil.rmtree(self.data)
            raise PatroniError(
                f"{self.name} has copied the primary, and the copy does not start, so it was removed. Its journal:\n{log}"
            )
        return self.in_place()

    def in_place(self) -> bool:
        part = (self.api.cluster([self.name]) or {}).get(self.name, {})
        return part.get("state") in patroni.STREAMING

    def wait_for(self, what: str, look: Callable[[], Any], seconds: float | None = None) -> None:
        if not self.until(look, seconds):
            raise PatroniError(
                f"{self.name} is not in its place as {what} after {seconds or self.module.params['timeout']} s. The end of its "
                f"journal:\n{journal(self.module, self.unit)}"
            )

    def settle(self) -> None:
        """On the leader alone, so one host reports the change."""
        if self.module.check_mode and not any(report["managed"] for report in self.reports.values()):
            if patroni.first_primary(self.members, self.reports) == self.name:
                self.do("set the dynamic configuration")
            return
        if leader_of(self.until(lambda: self.leading(), 60)) != self.name:
            return
        change = patroni.differences(self.module.params["dynamic"], self.api.config(self.name))
        self.patch(change)
        for name in patroni_roles.missing(self.server() or {"roles": list(patroni_roles.CREATE)}):
            if self.do(f"created the role {name}"):
                self.sql(patroni_roles.CREATE[name])
        if not self.api.config(self.name).get("synchronous_mode_strict"):
            # Before a standby is synchronous, strict mode would stop every write.
            synchronous = self.module.check_mode or self.until(self.synchronous, 60)
            if synchronous:
                self.patch({"synchronous_mode_strict": True})

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

    def restart_standby(self) -> None:
        if leader_of(self.api.cluster([self.name])) != self.name:
            self.restart_here()

    def restart_primary(self) -> None:
        if leader_of(self.api.cluster([self.name])) != self.name or not (reasons := self.restart_for()):
            return
        # A standby that was just restarted becomes synchronous again within a loop.
        candidates = [] if self.module.check_mode else self.until(self.synchronous, 60)
        if not candidates and not self.module.check_mode:
            raise PatroniError(
                f"{self.name} is the primary and has to be restarted for {', '.join(reasons)}, but no standby is synchronous, so "
                f"writes would stop. Start the standbys, and run again"
            )
        if not self.do(f"switched over and restarted for {', '.join(reasons)}"):
            return
        self.switch_over(candidates[0])
        self.restart_here(note=False)

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
        status, answer = self.api.ask(self.name, "/restart", "POST", {}, timeout=self.module.params["timeout"])
        if status != 200:
            raise PatroniError(f"{self.name} could not be restarted: {answer}")
        # A standby keeps a larger max_connections until the primary has the smaller one: a second pass restarts it again.
        self.wait_for("member", self.in_place)

    def check(self) -> None:
        if self.module.check_mode and not self.own()["managed"]:
            return  # predicted
        problems: list[str] = []

        def sound() -> bool:
            problems[:] = patroni.disagreements(self.members, self.api.cluster([self.name]))
            return not problems

        if not self.until(sound, 60):
            raise PatroniError("; ".join(problems))


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "step": {
                "type": "str",
                "required": True,
                "choices": ["report", "adopt", "copy", "settle", "restart_standby", "restart_primary", "check"],
            },
            "name": {"type": "str", "required": True},
            "members": {"type": "dict", "required": True},
            "port": {"type": "int", "required": True},
            "version": {"type": "str", "required": True},
            "postgresql_port": {"type": "int", "required": True},
            "reports": {"type": "dict", "default": {}},
            "dynamic": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    step = Step(module)
    try:
        report = getattr(step, module.params["step"])()
    except PatroniError as error:
        module.fail_json(msg=f"Patroni: {error}.", did=step.did)
    module.exit_json(changed=bool(step.did), did=step.did, report=report or {})


if __name__ == "__main__":
    main()
