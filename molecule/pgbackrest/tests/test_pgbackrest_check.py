"""`make backup-check` of a real repository: what is missing has its sentence, and nothing else has one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from playbook_runner import play

testinfra_hosts = ["ansible://pgbackrest"]
repository_only = pytest.mark.only_on(lambda variables: bool(variables.get("pgbackrest_database_hosts")))
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once, repository_only]


@pytest.fixture
def committed(inventory, tmp_path):
    """The inventory with its vault in version control, and a copy elsewhere."""
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.net"]
    for arguments in (
        ["init", "--initial-branch=main"],
        ["add", "--force", "."],
        [*identity, "commit", "--message=as it is"],
        ["init", "--bare", str(tmp_path / "elsewhere")],
        ["remote", "add", "origin", str(tmp_path / "elsewhere")],
        ["push", "origin", "main"],
    ):
        subprocess.run(["git", "-C", inventory, *arguments], check=True, capture_output=True)
    yield
    shutil.rmtree(Path(inventory) / ".git")


def test_an_inventory_without_version_control_is_named(inventory, pair, first_backup):
    run = play(inventory, "playbooks/backup_check.yml", "--limit", pair)
    run.assert_failed("is not under version control, so it is lost with this machine")


def test_once_everything_is_kept_nothing_is_missing(host, hostname, inventory, pair, committed, first_backup):
    host.check_output("systemctl start grunnfjell-restore-drill")
    run = play(inventory, "playbooks/backup_check.yml", "--limit", pair)
    assert run.returncode == 0 and not run.changed, run.output
    for held in ("To be kept", f"{hostname}: any moment of the last", "last WAL archived"):
        assert held in run.text, run.output
    # A passphrase that nobody else knows.
    other = {"pgbackrest_repo_cipher_pass": "0123456789abcdef"}
    run = play(inventory, "playbooks/backup_check.yml", "--limit", pair, variables=other)
    run.assert_failed(f"{hostname}: the passphrase of its repository is not in the vault")
    assert "0123456789abcdef" not in run.output
