"""The file of an inventory's secrets: whatever goes wrong, it is the old one or the new one, and no secret is made twice."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust import vault_file
from local_playbook import run_playbook

VAULT = VaultLib([("default", VaultSecret(b"of the test"))])
HELD = {"vault_token": "first"}
TASK = {
    "grunnfjell.platform.vault_secrets": {
        "path": "{{ inventory_dir }}/vault.yml",
        "secrets": {"vault_token": [], "vault_more": []},
    }
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vault.yml"
    vault_file.write(path, VAULT, HELD)
    (tmp_path / "password").write_text("of the test")
    return path


def make_secrets(path: Path) -> tuple[int, str]:
    """As `make secrets` does."""
    play = {"hosts": "all", "gather_facts": False, "tasks": [TASK]}
    return run_playbook(path.parent, [play], {"localhost": {}}, "--vault-password-file", path.with_name("password"))


def test_it_is_encrypted_and_for_its_owner_alone(path: Path) -> None:
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;") and b"first" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert vault_file.read(path, VAULT) == HELD


@pytest.mark.parametrize("kept", [0, 10, 60, 200, -1], ids=lambda kept: f"{kept} bytes")
def test_a_truncated_vault_is_never_read_as_one_with_fewer_secrets(path: Path, kept: int) -> None:
    whole = path.read_bytes().rstrip()
    path.write_bytes(whole[:kept])
    with pytest.raises(AnsibleError):
        vault_file.read(path, VAULT)


def test_a_wrong_password_reads_nothing(path: Path) -> None:
    with pytest.raises(AnsibleError, match="Decryption failed"):
        vault_file.read(path, VaultLib([("default", VaultSecret(b"another"))]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: path.write_bytes(b""),
        lambda path: path.with_name("password").write_text("another"),
    ],
    ids=["truncated", "empty", "wrong password"],
)
def test_a_vault_that_cannot_be_read_is_named_and_gets_no_new_secrets(path: Path, spoil) -> None:
    """New secrets would lock every program out of its service."""
    spoil(path)
    spoiled = path.read_bytes()
    code, output = make_secrets(path)
    assert code and f"{path} cannot be read. Name its password" in output, output
    assert path.read_bytes() == spoiled


def test_a_full_disk_leaves_the_old_vault_and_no_draft(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AnsibleError, match=r"vault.yml was not changed: .*No space left on device"):
        vault_file.write(path, VAULT, HELD | {"vault_more": "second"})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.glob("vault*")] == ["vault.yml"]


def test_a_draft_that_a_killed_run_left_is_no_vault_and_is_replaced(path: Path) -> None:
    path.with_suffix(".part").write_bytes(path.read_bytes()[:100])
    path.with_suffix(".part").chmod(0o644)
    code, output = make_secrets(path)
    assert code == 0, output
    held = vault_file.read(path, VAULT)
    assert held["vault_token"] == "first" and len(held["vault_more"]) == 64
    assert [file.name for file in path.parent.glob("vault*")] == ["vault.yml"]
    assert path.stat().st_mode & 0o777 == 0o600


REWRITE = """
import sys
from pathlib import Path
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust import vault_file
vault, path = VaultLib([("default", VaultSecret(b"of the test"))]), Path(sys.argv[1])
print("began", flush=True)
for number in range(10**6):
    vault_file.write(path, vault, {"vault_token": "first", "vault_number": number, "filling": "x" * 20000})
"""


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.07, 0.13])
def test_a_run_that_is_killed_while_it_writes_leaves_a_whole_vault(path: Path, delay: float) -> None:
    run = subprocess.Popen([sys.executable, "-c", REWRITE, str(path)], stdout=subprocess.PIPE, text=True)
    assert run.stdout and run.stdout.readline() == "began\n"
    try:
        run.wait(delay)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert vault_file.read(path, VAULT)["vault_token"] == "first"
