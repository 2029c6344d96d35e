#!/usr/bin/python3
"""Starts, joins, restarts and checks a member of etcd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_member
short_description: Keep a host a member of an etcd cluster
description:
  - One step of a run, on every member. C(report) answers whether the host has data of a member, and whether the process runs
    with other settings than its file has. C(start) starts a member with data, or all of a new cluster. C(join) removes
    members that are not in O(members), and admits this host if it is blank. C(restart) restarts this member if its settings
    differ and all others are healthy. C(leave) fails unless all others are healthy, so this member may stop for an update.
    C(check) asks every member, and fails unless all are healthy and know the same members.
  - Membership, health and the settings in force are asked of the running processes. Nothing is remembered, so the next run
    completes an interrupted one.
options:
  step: {description: What to do., type: str, required: true, choices: [report, start, join, restart, leave, check]}
  name: {description: Name of this host's member., type: str, required: true}
  members: {description: Name of each member to its address., type: dict, required: true}
  client_port: {description: TCP port of the clients., type: int, required: true}
  peer_port: {description: TCP port of the members., type: int, required: true}
  settings: {description: Content of the file with the settings; empty to read the file., type: str, default: ''}
  reports: {description: 'Name to the answer of step report, of each member in this run.', type: dict, default: {}}
  timeout: {description: Seconds until a member must be healthy., type: int, default: 90}
author: maintainers
attributes:
  check_mode: {support: full, description: Predicts starts, joins, removals and restarts.}
"""

EXAMPLES = r"""
- name: Ask whether the host has data of a member
  etcd_member:
    step: report
    name: db1
    members: {db1: 10.0.0.21, db2: 10.0.0.22, db3: 10.0.0.23}
    client_port: 2379
    peer_port: 2380
"""

RETURN = r"""
report: {description: 'Of step report: data, running, and restart_for, the settings that differ.', type: dict, returned: success}
did: {description: What was done., returned: success, type: list, elements: str}
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import etcd, etcd_steps
from ..module_utils.etcd import Cluster, EtcdError, Member
from ..module_utils.waiting import until
from ..module_utils.whole_files import ManagedFile, journal, usual_umask, write_files

UNIT = "etcd.service"
SETTINGS = Path("/etc/etcd/grunnfjell.env")
BOOTSTRAP = "/etc/etcd/grunnfjell-bootstrap.env"

# What etcd logs before it ends for this reason.
REMOVED = "permanently removed from the cluster"


class Step:
    def __init__(self, module: AnsibleModule) -> None:
        params = module.params
        self.module, self.name, self.reports = module, params["name"], params["reports"]
        self.cluster = Cluster(params["members"], params["client_port"], params["peer_port"])
        self.others = [name for name in self.cluster.members if name != self.name]
        self.did: list[str] = []

    def do(self, what: str) -> bool:
        """Notes a change; returns whether to make it."""
        self.did.append(what)
        return not self.module.check_mode

    def property(self, name: str) -> str:
        return self.module.run_command(["systemctl", "show", UNIT, "--timestamp=unix", f"--property={name}", "--value"])[
            1
        ].strip()

    def until(self, look: Callable[[], Any], seconds: float | None = None) -> Any:
        """The first true result, or the last one after I(timeout) or these seconds."""
        return until(look, self.module.params["timeout"] if seconds is None else seconds)

    def restart_for(self) -> list[str]:
        """Settings, or files, that the running process has not read; empty if it does not run."""
        pid = self.property("MainPID")
        if pid in ("", "0"):
            return []
        # A container's root may not read it; the account that etcd runs as may.
        rc, environment, err = self.module.run_command(["runuser", "-u", "etcd", "--", "cat", f"/proc/{pid}/environ"])
        if rc:
            raise EtcdError(f"the environment of the running etcd cannot be read: {err.strip()}")
        began = float(self.property("ExecMainStartTimestamp").lstrip("@"))
        running = etcd_steps.settings_of(environment.replace("\0", "\n"))
        wanted = etcd_steps.settings_of(self.module.params["settings"] or SETTINGS.read_text(encoding="utf-8"))
        differing = [key for key in {**wanted, **running} if wanted.get(key) != running.get(key)]
        # etcd reads its certificate for each connection, but the authorities only when it starts.
        return sorted(differing) + (["the authorities"] if etcd.AUTHORITIES.stat().st_mtime > began else [])

    def report(self) -> dict[str, Any]:
        running = self.property("ActiveState") in ("active", "activating", "reloading")
        data = etcd.DATA.is_dir() and any(etcd.DATA.iterdir())
        known = SETTINGS.exists() or bool(self.module.params["settings"])
        return {"data": data, "running": running, "restart_for": self.restart_for() if known else []}

    def start(self) -> None:
        own = self.report()
        if own["data"]:
            if not own["running"] and self.do("started"):
                self.systemctl("start", "--no-block")
        elif etcd_steps.may_bootstrap(self.cluster.members, self.reports):
            if self.do("started a new cluster"):
                self.begin("new")
        elif not self.module.check_mode:
            # A member with data that was down is being started on another host.
            seen = self.until(lambda: self.cluster.seen_by_any(self.others), 30)
            if not seen:
                etcd_steps.refuse_a_second_cluster(self.name, self.cluster.members, self.reports)
            elif etcd_steps.never_formed(self.name, seen[1]) and self.do("started a new cluster"):
                self.begin("new")

    def join(self) -> None:
        own = self.report()
        if self.module.check_mode and not etcd_steps.with_data(self.reports):
            return  # step start has predicted a new cluster
        if self.name == etcd_steps.first_act(self.cluster.members, self.reports):
            self.remove_strangers()
        seen = self.seen()
        if own["data"] or own["running"]:
            self.refuse_removed(seen)
            self.wait_healthy()
            return
        for former in seen:
            if former.name == self.name and self.do(f"removed the lost member {former.id}"):
                self.change("member", "remove", former.id)
        if self.do("joined"):
            self.admit(seen)

    def refuse_removed(self, seen: list[Member]) -> None:
        """Refuses data of a member that the others have removed: its etcd waits for them forever, or ends by itself."""
        seen_by_itself = self.until(self.own_view, 15) or []
        removed = etcd_steps.was_removed(self.name, self.cluster.peer_url(self.name), seen, seen_by_itself)
        if removed or (not seen_by_itself and REMOVED in journal(self.module, UNIT)):
            raise EtcdError(
                f"{self.name} has data of a member that was removed from the cluster, so it came back after another host took "
                f"its place. If its data is not needed: systemctl stop etcd, remove {etcd.DATA.parents[1]}, and run again"
            )

    def own_view(self) -> list[Member]:
        try:
            return self.cluster.seen_by(self.name)
        except EtcdError:
            return []

    def admit(self, seen: list[Member]) -> None:
        """Adds this host, unless a run that was cut off has, and starts it."""
        peer_url = self.cluster.peer_url(self.name)
        if not any(not entry.name and peer_url in entry.peer_urls for entry in seen):
            self.change("member", "add", self.name, f"--peer-urls={peer_url}")
        self.begin("existing", [entry.name for entry in seen if entry.name] + [self.name])
        self.wait_healthy()

    def remove_strangers(self) -> None:
        seen = self.seen()
        peer_urls = {name: self.cluster.peer_url(name) for name in self.cluster.members}
        if sentence := etcd_steps.moved(self.cluster.members, seen, peer_urls):
            raise EtcdError(sentence)
        for entry in etcd_steps.strangers(self.cluster.members, seen, list(peer_urls.values())):
            if self.do(f"removed the member {entry.name or entry.peer_urls[0]}"):
                self.change("member", "remove", entry.id)

    def seen(self) -> list[Member]:
        """The members as one with a majority knows them."""
        names = etcd_steps.with_data(self.reports) or list(self.cluster.members)
        healthy = self.until(lambda: [name for name in names if not self.cluster.trouble(name)])
        if not healthy:
            why = "; ".join(f"{name}: {self.cluster.trouble(name)}" for name in names)
            raise EtcdError(
                f"no member with data has a majority, so none can be removed or added ({why}). Start the members that are down, "
                f"or restore one from a snapshot (docs/etcd.md)"
            )
        return self.cluster.seen_by(healthy[0])

    def change(self, *arguments: str) -> None:
        """Changes the membership. Just after a member's start the others refuse it for some seconds as unhealthy."""
        errors: list[str] = []

        def attempt() -> bool:
            for name in etcd_steps.with_data(self.reports) or self.others:
                if name == self.name and not etcd.DATA.is_dir():
                    continue
                try:
                    self.cluster.ctl(name, *arguments)
                except EtcdError as error:
                    errors.append(str(error))
                else:
                    return True
            return False

        if not self.until(attempt, 30):
            raise EtcdError(f"`etcdctl {' '.join(arguments)}` was refused: {errors[-1]}")

    def begin(self, state: str, names: list[str] | None = None) -> None:
        """Starts a blank member. names: those of the cluster that it joins, which must be exactly those that it has."""
        members = {name: self.cluster.members[name] for name in names or self.cluster.members if name in self.cluster.members}
        cluster = Cluster(members, self.cluster.client_port, self.cluster.peer_port)
        write_files([ManagedFile(BOOTSTRAP, etcd_steps.bootstrap_file(cluster, state), "root", "root", 0o644)], False)
        # A start that failed before may still be tried again by systemd, with the former file.
        self.systemctl("restart", "--no-block")

    def restart(self) -> None:
        reasons = self.reports.get(self.name, {}).get("restart_for") or self.restart_for()
        # A member that this run has started has read its file; a run in check mode has started nothing.
        if not reasons or not (self.module.check_mode or self.restart_for()):
            return
        if not self.do(f"restarted for {', '.join(reasons)}"):
            return
        self.require_others(f"runs with other settings than {SETTINGS} ({', '.join(reasons)}), but is not restarted")
        self.systemctl("restart", "--no-block")
        self.wait_healthy()

    def leave(self) -> None:
        self.require_others("is not stopped")

    def require_others(self, consequence: str) -> None:
        """Fails unless all other members are healthy."""
        troubles: dict[str, str] = {}

        def others_are_healthy() -> bool:
            troubles.update({name: self.cluster.trouble(name) for name in self.others})
            return not any(troubles.values())

        if not self.until(others_are_healthy, 30):
            why = "; ".join(f"{name}: {trouble}" for name, trouble in troubles.items() if trouble)
            raise EtcdError(
                f"{self.name} {consequence} while another member is down, since the rest may be no majority ({why}). Start that "
                f"member, or replace its host"
            )

    def check(self) -> None:
        if self.module.check_mode and not self.report()["running"]:
            return  # predicted

        def problems() -> list[str]:
            troubles = {name: self.cluster.trouble(name) for name in self.cluster.members}
            try:
                views = {name: self.cluster.seen_by(name) for name in self.cluster.members}
                leaders = {name: self.cluster.status(name)["leader"] for name in self.cluster.members}
            except EtcdError as error:
                return [*(f"{name}: {why}" for name, why in troubles.items() if why), str(error)]
            return etcd_steps.disagreements(self.cluster.members, views, troubles, leaders)

        found: list[str] = []

        def sound() -> bool:
            found[:] = problems()
            return not found

        if not self.until(sound, 30):
            raise EtcdError("; ".join(found))

    def wait_healthy(self) -> None:
        if self.module.check_mode or self.until(lambda: not self.cluster.trouble(self.name)):
            return
        raise EtcdError(
            f"{self.name} is not healthy after {self.module.params['timeout']} s: {self.cluster.trouble(self.name)}. "
            f"The end of its journal:\n{journal(self.module, UNIT)}"
        )

    def systemctl(self, *arguments: str) -> None:
        rc, _, err = self.module.run_command(["systemctl", *arguments, UNIT])
        if rc:
            raise EtcdError(f"systemctl {' '.join(arguments)} {UNIT} failed: {err.strip()}")


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "required": True, "choices": ["report", "start", "join", "restart", "leave", "check"]},
            "name": {"type": "str", "required": True},
            "members": {"type": "dict", "required": True},
            "client_port": {"type": "int", "required": True},
            "peer_port": {"type": "int", "required": True},
            "settings": {"type": "str", "default": ""},
            "reports": {"type": "dict", "default": {}},
            "timeout": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    step = Step(module)
    try:
        report = getattr(step, module.params["step"])()
    except EtcdError as error:
        module.fail_json(msg=f"etcd: {error}.", did=step.did)
    module.exit_json(changed=bool(step.did), did=step.did, report=report or {})


if __name__ == "__main__":
    main()
