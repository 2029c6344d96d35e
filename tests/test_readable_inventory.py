"""An inventory that Ansible would read only partly ends every playbook with a sentence that names the file."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.inventory_files import unreadable

ROOT = Path(__file__).resolve().parents[1]
TWICE = "all:\n  children:\n    rabbitmq:\n      hosts: {a: {}}\n    rabbitmq:\n      hosts: {b: {}}\n"


@dataclass(frozen=True)
class Spoiled:
    """path, text: the file that is spoiled; no text removes it.  says: with {} for the inventory."""

    path: str
    text: str | None
    says: str


SPOILED = {
    "a tab in the hosts file": Spoiled("hosts.yml", "all:\n\tchildren: {}\n", "{}/hosts.yml, line 2, is not YAML: "),
    "a tab in a file of variables": Spoiled(
        "group_vars/all/zz.yml", "a:\n\tb: 1\n", "{}/group_vars/all/zz.yml, line 2, is not YAML: "
    ),
    "a group twice": Spoiled("hosts.yml", TWICE, "{}/hosts.yml, line 5: the key 'rabbitmq' is already in line 3,"),
    "an input twice": Spoiled("group_vars/all/zz.yml", "a: 1\na: 2\n", "{}/group_vars/all/zz.yml, line 2: the key 'a' is"),
    "groups without a host": Spoiled("hosts.yml", "all:\n  children:\n    rabbitmq:\n", "The inventory {} has no host."),
    "no hosts file": Spoiled("hosts.yml", None, "The inventory {} has no host."),
}


def play(inventory: Path, playbook: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, playbook]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


@pytest.mark.parametrize("playbook", ["playbooks/topology.yml", "playbooks/status.yml"])
@pytest.mark.parametrize("fault", SPOILED)
def test_an_inventory_that_ansible_reads_only_partly_ends_the_run(fault: str, playbook: str, tmp_path: Path) -> None:
    spoiled, home = SPOILED[fault], tmp_path / "oslo"
    shutil.copytree(ROOT / "inventories/example", home)
    if spoiled.text is None:
        (home / spoiled.path).unlink()
    else:
        (home / spoiled.path).write_text(spoiled.text)
    done = play(home, playbook)
    assert done.returncode != 0
    last = " ".join("\n".join(done.stdout.splitlines()[-5:]).split())
    assert "Nothing was changed. This inventory cannot be used:" in last, done.stdout
    assert spoiled.says.format(home) in last and done.stdout.count(spoiled.says.format(home)) == 1, done.stdout


def test_an_inventory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    done = play(tmp_path / "olso", "playbooks/topology.yml")
    assert done.returncode != 0 and f"{tmp_path / 'olso'} does not exist. Correct -i." in done.stdout


@pytest.mark.parametrize("inventory", sorted(path.name for path in (ROOT / "inventories").iterdir() if path.is_dir()))
def test_the_inventories_of_the_kit_are_readable(inventory: str) -> None:
    assert list(unreadable(ROOT / "inventories" / inventory)) == []


def test_valid_yaml_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all.yml").write_text(
        "base: &base {a: 1}\nmerged: {<<: *base, b: 2}\nsecret: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3132\n"
        "raw: !unsafe '{{ a }}'\n"
    )
    (tmp_path / "group_vars/vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n3132\n")
    (tmp_path / "hosts.ini").write_text("[rabbitmq]\nbroker1\n")
    assert list(unreadable(tmp_path)) == []
