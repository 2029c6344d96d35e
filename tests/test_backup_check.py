"""What is missing for a restore: on the control machine, in version control and on the repository hosts."""

from __future__ import annotations

import doctest
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet import version_control
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports import backup_check
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.backup_check import Control
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.status import HostInfo, StatusReport

HOSTS = {
    "db1": HostInfo(frozenset({"postgresql", "pgbackrest"})),
    "backup1": HostInfo(frozenset({"pgbackrest"})),
}
ARCHIVE = {
    "archive_mode": "on",
    "waiting_bytes": 0,
    "archived_s": 9,
    "failing": False,
    "queue_max": 2**33,
    "repository": "backup1",
}
BACKUP = {
    "database": "db1",
    "problem": "",
    "label": "20261129-010000F",
    "age_s": 3600,
    "full_age_s": 2 * 86400,
    "reach_s": 13 * 86400,
    "bytes": 2**20,
    "missing": [],
    "failed_over": False,
    "disk_used": 0.2,
    "age_max_s": 30 * 3600,
    "drill_age_max_s": 10 * 86400,
    "drill": {"age_s": 3600, "proved": True, "problems": [], "rto_s": 5.0, "rpo_s": 12.0, "compared": False},
}
CONTROL = Control(
    inventory="inventories/shop",
    vault_path="vault.yml",
    vault={"vault_pki_authorities": {"first": {"key": "k", "certificate": "c"}}, "vault_pgbackrest_repo_cipher_pass": "p"},
    password_path="/home/ops/.vault-password",
    authorities=["first"],
    passphrases={"backup1": "p"},
    versions={"uncommitted": [], "ignored": [], "unpushed": 0},
)


def report_of(hosts: dict[str, HostInfo] = HOSTS, **sections: Any) -> dict[str, Any]:
    answers = {"db1": {"sections": {"archive": ARCHIVE}}, "backup1": {"sections": {"backup": BACKUP}}} | sections
    return StatusReport(answers, hosts).report()


def missing(control: Control = CONTROL, hosts: dict[str, HostInfo] = HOSTS, **sections: Any) -> list[str]:
    return backup_check.missing(control, report_of(hosts, **sections), hosts)


def test_the_examples_hold() -> None:
    assert doctest.testmod(backup_check).attempted and doctest.testmod(backup_check).failed == 0


def test_of_what_is_kept_nothing_is_missing() -> None:
    assert missing() == []


def test_the_moments_that_can_be_restored_are_listed() -> None:
    rows = dict(backup_check.lines(report_of()))
    assert rows["moments"] == "backup1: any moment of the last 13 d can be restored; last full backup 2 d ago"
    kept = dict(backup_check.to_keep(CONTROL, report_of()))
    assert kept["the vault's password"].startswith("/home/ops/.vault-password; also apart from the inventory")
    assert kept["the databases"].startswith("backup1; ")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"password_path": ""}, "There is no password of the vault on this machine"),
        ({"password_tracked": True}, "/home/ops/.vault-password is under version control, so anyone with a copy opens the vault"),
        ({"vault": None, "vault_problem": "vault.yml is not encrypted"}, "vault.yml is not encrypted: the passwords and"),
        ({"authorities": ["first", "second"]}, "The vault has no key of the authority second"),
        ({"passphrases": {"backup1": "other"}}, "backup1: the passphrase of its repository is not in the vault"),
        ({"versions": None}, "inventories/shop is not under version control"),
        ({"versions": {"uncommitted": [], "ignored": ["x/vault.yml", "x.pyc"], "unpushed": 0}}, "x/vault.yml is ignored by git"),
        ({"versions": {"uncommitted": list("abcd"), "ignored": [], "unpushed": 0}}, "a, b, c and 1 more differ from the last"),
        ({"versions": {"uncommitted": [], "ignored": [], "unpushed": None}}, "in a repository without a remote"),
        ({"versions": {"uncommitted": [], "ignored": [], "unpushed": 2}}, "2 commits are on this machine only: git push."),
    ],
)
def test_what_the_control_machine_lacks_is_named(changes: dict[str, Any], sentence: str) -> None:
    (line,) = missing(replace(CONTROL, **changes))
    assert sentence in line


@pytest.mark.parametrize(
    ("hosts", "sections", "sentence"),
    [
        ({}, {"backup1": {"unreachable": True, "msg": "no route"}}, "backup1 did not answer, so nothing is known about its part"),
        (
            {},
            {"backup1": {"sections": {"backup": {"error": "no answer"}}}},
            "backup1: its backups could not be looked at: no answer",
        ),
        ({"db2": HostInfo(frozenset({"postgresql"}))}, {"db2": {"sections": {}}}, "db2: its databases are in no backup"),
        ({}, {"backup1": {"sections": {"backup": BACKUP | {"full_age_s": 9 * 86400}}}}, "the last full backup of db1 is 9 d old"),
        ({}, {"backup1": {"sections": {"backup": BACKUP | {"drill": None}}}}, "no restore of db1 was ever tried"),
        ({}, {"db1": {"sections": {"archive": ARCHIVE | {"archive_mode": "off"}}}}, "db1: archive_mode is off"),
    ],
)
def test_what_the_hosts_lack_is_named(hosts: dict[str, HostInfo], sections: dict[str, Any], sentence: str) -> None:
    (line,) = missing(CONTROL, HOSTS | hosts, **sections)
    assert sentence in line


def test_a_run_without_the_repository_host_proves_nothing() -> None:
    alone = {"db1": HOSTS["db1"]}
    (line,) = missing(replace(CONTROL, passphrases={}), alone)
    assert "No host of this run keeps a repository" in line


# --- Version control, by git itself --------------------------------------------------------------------------------------


def git(directory: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.net"]
    subprocess.run(["git", "-C", str(directory), *identity, *arguments], check=True, capture_output=True)


def test_the_state_of_an_inventory_is_what_git_reports(tmp_path: Path) -> None:
    inventory = tmp_path / "work" / "shop"
    inventory.mkdir(parents=True)
    (inventory / "hosts.yml").write_text("all: {}\n")
    assert version_control.state(inventory) is None
    git(tmp_path / "work", "init", "--initial-branch=main")
    assert version_control.state(inventory) == {"uncommitted": ["shop/hosts.yml"], "ignored": [], "unpushed": None}
    (tmp_path / "work/.gitignore").write_text("vault.yml\n")
    (inventory / "vault.yml").write_text("x")
    (inventory / ".grunnfjell-run").write_text("the lock of a run")
    git(tmp_path / "work", "add", ".")
    git(tmp_path / "work", "commit", "--message=x")
    (inventory / "host_vars.yml").write_text("x")
    (tmp_path / "work/beside").write_text("not of this inventory")
    git(tmp_path, "init", "--bare", "elsewhere")
    git(tmp_path / "work", "remote", "add", "origin", str(tmp_path / "elsewhere"))
    assert version_control.state(inventory) == {
        "uncommitted": ["shop/host_vars.yml"],
        "ignored": ["shop/vault.yml"],
        "unpushed": 1,
    }
    git(tmp_path / "work", "push", "origin", "main")
    assert version_control.state(inventory)["unpushed"] == 0  # type: ignore[index]
    assert version_control.tracked(inventory / "hosts.yml") and not version_control.tracked(inventory / "vault.yml")


def test_a_backup_of_files_that_is_missing_is_named_too() -> None:
    never = {"store1": {"age_s": None, "files": 0, "bytes": 0, "unread": 0, "failed_s": 9, "problem": "no route to host"}}
    web = {"backups": never, "drill": None, "interval_s": 86400, "drill_age_max_s": 8 * 86400}
    hosts = HOSTS | {"web1": HostInfo(frozenset({"restic"})), "store1": HostInfo(frozenset({"restic"}))}
    answers = {"web1": {"sections": {"files": web}}, "store1": {"sections": {"files": {"repositories": {}, "disk_used": 0.1}}}}
    assert missing(hosts=hosts, **answers) == [
        "web1: store1 has no backup of its files (no route to host): systemctl start grunnfjell-restic-backup"
    ]
    assert ("files of the applications", "store1; those of hosts with role restic (docs/backups.md)") in backup_check.to_keep(
        CONTROL, report_of(hosts, **answers)
    )
