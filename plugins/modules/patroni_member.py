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
    synchronous. C(restart_standby), C(restart_primary) and C(restart_follower) restart a member whose server waits for it, the
    primary after a switchover, and a standby that had to wait for the primary. C(leave) makes this member ready to stop for an
    update, and fails unless all members stream; a primary switches over. C(check) fails unless there is one leader, and all
    members stream.
  - Everything is asked of the running services, so the next run completes an interrupted one.
options:
  step:
    description: What to do.
    type: str
    required: true
    choices: [report, adopt, copy, settle, restart_standby, restart_primary, restart_follower, leave, check]
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
  description: 'Of step report: managed (by Patroni), databases (whether it has any besides those of a new cluster), leads.'
  type: dict
  returned: success
did: {description: What was done., returned: success, type: list, elements: str}
"""

import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import patroni, patroni_roles
from ..module_utils.patroni import PatroniError, leader_of
from ..module_utils.patroni_local_member import LocalMember
from ..module_utils.whole_files import usual_umask

STEPS = ["report", "adopt", "copy", "settle", "restart_standby", "restart_primary", "restart_follower", "leave", "check"]


class Step(LocalMember):
    """The steps of a run, by their names."""

    def report(self) -> dict[str, Any]:
        rules = self.etc / "grunnfjell_hba.conf"
        if not rules.exists() and not self.module.check_mode:
            raise PatroniError(
                f"{self.name} has no {rules}, which role postgresql writes. Run site.yml or playbooks/postgresql.yml"
            )
        return {**self.own(), "leads": leader_of(self.api.cluster([self.name])) == self.name}

    def adopt(self) -> None:
        own = self.own()
        if own["managed"]:
            if self.runs(self.unit):
                self.require_etcd()
            elif self.do("started"):
                self.hand_over()
        elif patroni.first_primary(self.members, self.reports) == self.name and self.do("adopted its server"):
            self.make_roles()
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

    def restart_standby(self) -> None:
        if leader_of(self.api.cluster([self.name])) == self.name or not self.restart_for():
            return
        others = set((self.server() or {}).get("pending", [])) - {"max_connections"}
        # Restarted before the primary, it would start with the primary's number again.
        if others or not (self.lowers_connections() and self.primary_has_more()):
            self.restart_here()

    def restart_follower(self) -> None:
        """After the primary: a standby that had to wait for its smaller number of connections."""
        if leader_of(self.api.cluster([self.name])) == self.name or not self.restart_for():
            return
        # It learns of the primary's number by replication.
        if not self.lowers_connections() or self.module.check_mode or self.until(lambda: not self.primary_has_more(), 60):
            self.restart_here()

    def restart_primary(self) -> None:
        if leader_of(self.api.cluster([self.name])) != self.name or not (reasons := self.restart_for()):
            return
        if self.lowers_connections():
            # No standby has fewer, so none could take over with them: writes stand still as long as for a switchover.
            if self.do(f"restarted in its place for {', '.join(reasons)}"):
                self.restart_here(note=False)
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

    def leave(self) -> None:
        self.require_sound(f"{self.name} is not stopped: ")
        if leader_of(self.api.cluster([self.name])) != self.name:
            return
        candidates = self.until(self.synchronous, 60)
        if not candidates:
            raise PatroniError(f"{self.name} is the primary and no standby is synchronous. Start the standbys, and run again")
        if self.do("switched over"):
            self.switch_over(candidates[0])
            self.wait_for("standby", lambda: self.in_place() and leader_of(self.api.cluster([self.name])) != self.name)

    def check(self) -> None:
        if self.module.check_mode and not self.own()["managed"]:
            return  # predicted
        self.require_sound()

    def require_sound(self, consequence: str = "") -> None:
        """Fails unless there is one leader, and all members stream."""
        problems: list[str] = []

        def sound() -> bool:
            problems[:] = patroni.disagreements(self.members, self.api.cluster([self.name]))
            return not problems

        if not self.until(sound, 60):
            raise PatroniError(consequence + "; ".join(problems))


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "step": {
                "type": "str",
                "required": True,
                "choices": STEPS,
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
