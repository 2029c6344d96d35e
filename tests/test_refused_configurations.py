"""PgBouncer and PostgreSQL refuse a configuration, or hang over it: what runs goes on, and its files are put back.

The modules run in full, on files below a directory of the test; the services are stand-ins. The scenarios ask the real ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.grunnfjell.platform.plugins.module_utils import psql, whole_files
from ansible_collections.grunnfjell.platform.plugins.module_utils.whole_files import ManagedFile
from ansible_collections.grunnfjell.platform.plugins.modules import pgbouncer_service, postgresql_cluster
from module_calls import call

Command = Callable[[list[str]], tuple[int, str, str]]


class Host:
    """Files below `root`, and every command that a module runs."""

    def __init__(self, root: Path) -> None:
        self.root, self.commands = root, []
        self.answer: Command = lambda argv: (0, "", "")

    def run_command(self, module: AnsibleModule, argv: list[str], **options: object) -> tuple[int, str, str]:
        self.commands.append(" ".join(argv))
        return self.answer(argv)

    def file(self, path: str, *rest: object, **options: object) -> ManagedFile:
        return ManagedFile(path if path.startswith(str(self.root)) else f"{self.root}{path}", *rest, **options)

    def read(self) -> dict[str, str]:
        return {str(path.relative_to(self.root)): path.read_text() for path in self.root.rglob("*") if path.is_file()}

    @property
    def changes(self) -> list[str]:
        """What was done to a service."""
        verbs = ("start", "stop", "restart", "reload", "mask", "enable", "daemon-reload")
        return [command for command in self.commands if command.startswith("systemctl") and command.split()[1] in verbs]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    fake = Host(tmp_path / "root")
    monkeypatch.setattr(AnsibleModule, "run_command", lambda module, argv, **rest: fake.run_command(module, argv, **rest))
    monkeypatch.setattr(shutil, "chown", lambda path, user, group: None)
    monkeypatch.setattr(whole_files, "ownership_differs", lambda wanted: False)
    for module in (pgbouncer_service, postgresql_cluster):
        monkeypatch.setattr(module, "ManagedFile", fake.file)
    return fake


# PgBouncer.

INI = "etc/pgbouncer/pgbouncer.ini"
OLD = "[pgbouncer]\npool_mode = session\n"
NEW = "[pgbouncer]\npool_mode = transaction\n"


class Bouncer:
    """`twin` is the program in place of /usr/sbin/pgbouncer; `refuses` is what the console answers to RELOAD."""

    def __init__(self, host: Host, process: subprocess.Popen) -> None:
        self.host, self.process, self.refuses = host, process, ""
        self.twin = host.root.with_name("twin")
        self.pool_mode = "session"
        self.twins: list[subprocess.Popen] = []
        self.program("echo 'LOG process up' >&2; exec sleep 60")

    def program(self, text: str) -> None:
        self.twin.write_text(f"#!/bin/sh\n{text}\n")
        self.twin.chmod(0o755)

    def console(self, command: str, *where: object) -> list[dict[str, str]]:
        if command == "RELOAD":
            if self.refuses:
                raise psql.PsqlError(self.refuses)
            self.pool_mode = "transaction"
        return [{"key": "pool_mode", "value": self.pool_mode, "default": "session", "changeable": "yes"}]

    def converge(self, ini: str = NEW) -> dict:
        files = {"ini": ini, "userlist": "", "dropin": "[Service]\n", "settings": {"pool_mode": ini.split()[-1]}, "nofile": 8}
        return call(pgbouncer_service, timeout=1, **files)


@pytest.fixture
def bouncer(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bouncer]:
    popen = subprocess.Popen
    process = popen(["sleep", "600"])
    fake = Bouncer(host, process)

    def twin(argv: list[str], user: str, group: str, extra_groups: list[str], **options: object) -> subprocess.Popen:
        fake.twins.append(popen([str(fake.twin)], start_new_session=True, **options))
        return fake.twins[-1]

    host.answer = lambda argv: (
        (0, f"ActiveState=active\nMainPID={process.pid}\nNeedDaemonReload=no\nUnitFileState=enabled\n", "")
        if argv[:2] == ["systemctl", "show"]
        else (0, "", "")
    )
    exists, islink = os.path.exists, os.path.islink
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/usr/sbin/pgbouncer" or exists(path))
    monkeypatch.setattr(os.path, "islink", lambda path: str(path).endswith("pgbouncer.socket") or islink(path))
    monkeypatch.setattr(os, "readlink", lambda path: "/dev/null")
    monkeypatch.setattr(pgbouncer_service.subprocess, "Popen", twin)
    monkeypatch.setattr(pgbouncer_service, "INI", f"{host.root}/{INI}")
    monkeypatch.setattr(pgbouncer_service, "TWIN_SECONDS", 1)
    monkeypatch.setattr(pgbouncer_service.Bouncer, "console_address", lambda bouncer, pid: ("/run", "6432"))
    monkeypatch.setattr(psql, "console", fake.console)
    fake.converge(OLD)
    fake.pool_mode = "session"
    host.commands.clear()
    yield fake
    for started in (process, *fake.twins):
        started.kill()
        started.wait()


def test_a_configuration_that_the_twin_accepts_is_reloaded(bouncer: Bouncer) -> None:
    assert bouncer.converge()["action"] == "reload"
    assert bouncer.host.read()[INI] == NEW and bouncer.pool_mode == "transaction"
    assert all(twin.poll() is not None for twin in bouncer.twins)


@pytest.mark.parametrize(
    ("twin", "reason"),
    [
        ("echo '2026-01-01 UTC [1] ERROR unrecognized parameter: nonsense' >&2; exit 1", "unrecognized parameter: nonsense"),
        ("exit 1", "it did not come up within 1 s"),
        ("trap '' TERM; while :; do sleep 0.1; done", "it did not come up within 1 s"),
    ],
    ids=["refuses", "dies without a word", "hangs and ignores a stop"],
)
def test_a_configuration_that_the_twin_does_not_accept_changes_nothing(bouncer: Bouncer, twin: str, reason: str) -> None:
    before = bouncer.host.read()
    bouncer.program(twin)
    result = bouncer.converge()
    assert result["failed"] and "PgBouncer refuses this configuration; nothing was changed" in result["msg"]
    assert reason in result["msg"]
    assert bouncer.host.read() == before and bouncer.host.changes == []
    assert all(process.poll() is not None for process in bouncer.twins), "a twin runs on"


def test_a_reload_that_is_refused_fails_the_run_and_the_next_run_asks_again(bouncer: Bouncer) -> None:
    bouncer.refuses = "FATAL: no"
    result = bouncer.converge()
    assert result["failed"] and "PgBouncer refuses to reload: FATAL: no" in result["msg"]
    assert bouncer.pool_mode == "session"
    bouncer.refuses = ""
    assert bouncer.converge()["action"] == "reload" and bouncer.pool_mode == "transaction"


# PostgreSQL.

CONF, HBA = "etc/postgresql/17/main/conf.d/grunnfjell.conf", "etc/postgresql/17/main/grunnfjell_hba.conf"
RULES = "local all postgres peer\n"


class Cluster:
    """`states`: what the server answers, call by call; the last one again and again."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.states = [self.state(0)]

    @staticmethod
    def state(age: float, *errors: str) -> dict:
        """age: how long ago it read its files."""
        times = {"loaded": time.time() - age, "pending": [], "postmaster": {}}
        return {"port": 5432, "listen_addresses": "", "hba_errors": list(errors), **times}

    def converge(self, settings: str = "work_mem = '4MB'\n", hba: str = RULES) -> dict:
        return call(postgresql_cluster, version="17", settings=settings, hba=hba, timeout=1)


@pytest.fixture
def cluster(host: Host, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    fake, original = Cluster(host), postgresql_cluster.Cluster.__init__

    def placed(cluster: postgresql_cluster.Cluster, module: AnsibleModule) -> None:
        original(cluster, module)
        cluster.etc = f"{host.root}{cluster.etc}"

    monkeypatch.setattr(postgresql_cluster.Cluster, "__init__", placed)
    monkeypatch.setattr(
        postgresql_cluster.Cluster, "state", lambda cluster: fake.states.pop(0) if len(fake.states) > 1 else fake.states[0]
    )
    main = host.root / "etc/postgresql/17/main/postgresql.conf"
    main.parent.mkdir(parents=True)
    main.write_text("")
    fake.states = [fake.state(0), fake.state(0), fake.state(-1)]
    assert fake.converge()["action"] == "reload"
    host.commands.clear()
    return fake


def test_settings_that_postgresql_does_not_know_change_nothing(cluster: Cluster) -> None:
    before = cluster.host.read()
    cluster.host.answer = lambda argv: (1, "", 'FATAL: unrecognized parameter "nonsense"') if "-C" in argv else (0, "", "")
    result = cluster.converge(settings="nonsense = '1'\n")
    assert result["failed"] and "PostgreSQL refuses these settings; nothing was changed" in result["msg"]
    assert 'unrecognized parameter "nonsense"' in result["msg"]
    assert cluster.host.read() == before and cluster.host.changes == []


def test_access_rules_that_the_server_refuses_are_put_back_and_not_reloaded(cluster: Cluster) -> None:
    before = cluster.host.read()
    cluster.states = [cluster.state(0), cluster.state(0, '2: invalid CIDR mask in address "10.0.0.1/99"')]
    result = cluster.converge(settings="work_mem = '8MB'\n", hba=RULES + "host all all 10.0.0.1/99 md5\n")
    assert result["failed"] and "PostgreSQL refuses the new access rules: 2: invalid CIDR mask" in result["msg"]
    assert "The old ones are in place again." in result["msg"]
    assert cluster.host.read() == before and cluster.host.changes == []


def test_a_server_that_goes_away_while_it_reads_the_rules_finds_the_old_ones(cluster: Cluster) -> None:
    """It starts again by itself, and would not with rules that it refuses."""
    before = cluster.host.read()
    cluster.states = [cluster.state(0), None]
    result = cluster.converge(hba=RULES + "host all all 10.0.0.1/99 md5\n")
    assert result["failed"] and "did not answer whether it accepts the new access rules" in result["msg"]
    assert cluster.host.read() == before and cluster.host.changes == []


def test_refused_rules_of_a_run_that_was_cut_off_are_not_reported_as_put_back(cluster: Cluster) -> None:
    wrong = RULES + "host all all 10.0.0.1/99 md5\n"
    (cluster.host.root / HBA).write_text(wrong)
    cluster.states = [cluster.state(60, "2: invalid CIDR mask")]
    result = cluster.converge(hba=wrong)
    assert result["failed"] and "An earlier run left them: correct them before it restarts." in result["msg"]
    assert cluster.host.changes == []
    cluster.states = [cluster.state(60), cluster.state(60), cluster.state(-1)]
    assert cluster.converge()["action"] == "reload"
    assert cluster.host.read()[HBA] == RULES
