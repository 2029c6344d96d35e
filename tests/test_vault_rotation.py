"""The steps of a rotation in the vault file, as playbooks/rotation_vault.yml takes them, without services."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust import vault_file

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = b"of the test"
PLAY = """\
- hosts: all
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - name: Take the step
      grunnfjell.platform.vault_rotation:
        path: "{{ inventory_dir }}/group_vars/all/vault.yml"
        step: "{{ step }}"
        applications: "{{ topology_applications }}"
      run_once: true
"""
PASSWORDS = "vault_rabbitmq_user_passwords"
BINDINGS = f"""\
topology_applications: [shop]
application_name: shop
ansible_connection: local
application_broker_user: "{{{{ {PASSWORDS}['shop'] | grunnfjell.platform.login_in_use('shop') }}}}"
application_broker_password: "{{{{ {PASSWORDS}['shop'] | grunnfjell.platform.secret_in_use }}}}"
rabbitmq_users: "{{{{ topology_applications | grunnfjell.platform.application_broker_users({PASSWORDS}) }}}}"
rabbitmq_user_passwords: "{{{{ {PASSWORDS} | grunnfjell.platform.login_secrets }}}}"
"""


class Inventory:
    def __init__(self, home: Path) -> None:
        self.home, self.path = home, home / "group_vars/all/vault.yml"
        self.vault = VaultLib([("default", VaultSecret(PASSWORD))])
        (home / "password").write_bytes(PASSWORD)
        (home / "play.yml").write_text(PLAY)
        (home / "hosts.yml").write_text("all: {hosts: {a: {}, b: {}}}\n")
        vault_file.write(self.path, self.vault, {PASSWORDS: {"shop": "first"}})
        self.bind(BINDINGS)

    def bind(self, bindings: str) -> None:
        (self.home / "group_vars/all/main.yml").write_text(bindings)

    @property
    def entry(self):
        return vault_file.read(self.path, self.vault)[PASSWORDS]["shop"]

    def take(self, step: str, *arguments: str) -> str:
        """What the run printed if it was refused; empty if the step was taken."""
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", self.home / "hosts.yml", self.home / "play.yml"]
        command += ["--vault-password-file", self.home / "password", "-e", f"step={step}", *arguments]
        environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return " ".join(done.stdout.split()) if done.returncode else ""


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path)


def test_the_vault_goes_through_every_phase_and_ends_with_only_the_new_secret(inventory: Inventory) -> None:
    phases = []
    for step in ("begin", "hand_over", "retire", "finish"):
        assert inventory.take(step) == ""
        phases.append({key for key in ("next", "former", "retired") if key in inventory.entry})
    assert phases == [{"next"}, {"former"}, {"retired"}, set()]
    assert inventory.entry["login"] == "shop_b" and inventory.entry["secret"] != "first"


def test_a_repeated_or_early_step_changes_nothing(inventory: Inventory) -> None:
    inventory.take("begin")
    begun = inventory.entry
    for step in ("begin", "retire", "finish"):
        assert inventory.take(step) == "" and inventory.entry == begun


def test_check_mode_writes_nothing(inventory: Inventory) -> None:
    assert inventory.take("begin", "--check") == "" and inventory.entry == "first"


def test_a_run_on_part_of_the_fleet_does_not_rotate(inventory: Inventory) -> None:
    printed = inventory.take("begin", "--limit", "a")
    assert "Nothing was changed. b of the fleet is not in this run" in printed and inventory.entry == "first"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("application_broker_password: first", "application_broker_user and application_broker_password of a do not follow"),
        ("rabbitmq_user_passwords: {shop: first}", "rabbitmq_users and rabbitmq_user_passwords of a do not follow"),
    ],
)
def test_an_inventory_that_does_not_follow_the_vault_is_refused_before_it_changes(inventory: Inventory, line, says) -> None:
    inventory.bind(yaml.safe_dump(yaml.safe_load(BINDINGS) | yaml.safe_load(line)))
    printed = inventory.take("begin")
    assert f"{says} {PASSWORDS}['shop']" in printed and inventory.entry == "first", printed
