"""Wrong inventories through the real playbook: each is refused with its sentence, and nothing is changed.

The hosts' facts come from a cache and the connection is local: only the judgement runs, which changes no host.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
HOSTS = ("broker1", "db1", "worker1", "worker2", "web1")
SECRETS = {
    "vault_rabbitmq_erlang_cookie": "0123456789abcdef" * 4,
    "vault_rabbitmq_user_passwords": {"newsroom": "not-a-secret"},
    "vault_postgresql_role_passwords": {"newsroom": "not-a-secret", "pgbouncer": "not-a-secret"},
    "vault_application_tokens": {"newsroom": "not-a-secret-either"},
}
GIB = 1024**3


class Inventory:
    """A copy of inventories/example that a test may spoil."""

    def __init__(self, home: Path) -> None:
        self.home = home
        shutil.copytree(ROOT / "inventories/example", home / "inventory")
        (home / "inventory/group_vars/all/vault.yml").write_text(yaml.safe_dump(SECRETS))
        source = f"application_source: {{directory: {ROOT / 'examples/newsroom'}}}\n"
        (home / "inventory/group_vars/newsroom/source.yml").write_text(source)
        self.hosts = yaml.safe_load((home / "inventory/hosts.yml").read_text())
        self.facts = {
            name: {
                "distribution": "Debian",
                "distribution_major_version": "13",
                "machine_id": f"{number:032x}",
            }
            for number, name in enumerate(HOSTS)
        }

    @property
    def groups(self) -> dict:
        return self.hosts["all"]["children"]

    def set(self, group: str, **values: object) -> None:
        (self.home / f"inventory/group_vars/{group}/spoiled.yml").write_text(yaml.safe_dump(values))

    def judge(self) -> subprocess.CompletedProcess[str]:
        (self.home / "inventory/hosts.yml").write_text(yaml.safe_dump(self.hosts))
        (self.home / "facts").mkdir()
        for name, facts in self.facts.items():
            # As the cache plugin jsonfile writes them, so that no host is asked.
            payload = {f"ansible_{key}": value for key, value in facts.items()} | {"_ansible_facts_gathered": True}
            (self.home / "facts" / f"s1_{name}").write_text(json.dumps({"__payload__": json.dumps(payload)}))
        self.set("all", ansible_connection="local", ansible_python_interpreter=sys.executable)
        (self.home / "password").write_text("not-a-secret\n")
        environment = {
            **os.environ,
            "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.home / "facts"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(self.home / "password"),
        }
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", self.home / "inventory", "playbooks/topology.yml"]
        return subprocess.run(
            [*command, "--tags", "topology"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path)


def test_the_example_itself_is_not_refused(inventory: Inventory) -> None:
    done = inventory.judge()
    # The judgement of the fleet lets it pass; the roles' own look at the host then finds that this machine is not broker1.
    assert "TASK [Let each role refuse what its host cannot carry]" in done.stdout, done.stdout + done.stderr
    assert "This fleet cannot work" not in done.stdout, done.stdout


def worker_on_the_database_by_name(inventory: Inventory) -> None:
    inventory.groups["celery_workers"]["hosts"]["db1"] = None


def worker_on_the_database_by_address(inventory: Inventory) -> None:
    database = inventory.groups["postgresql"]["hosts"]["db1"]["ansible_host"]
    inventory.groups["celery_workers"]["hosts"]["worker2"]["ansible_host"] = database


def worker_on_the_database_by_machine(inventory: Inventory) -> None:
    inventory.facts["worker2"]["machine_id"] = inventory.facts["db1"]["machine_id"]


def two_names_for_one_machine(inventory: Inventory) -> None:
    inventory.facts["worker2"]["machine_id"] = inventory.facts["worker1"]["machine_id"]


def empty_group(inventory: Inventory) -> None:
    inventory.groups["rabbitmq"]["hosts"] = {}


def unsupported_system(inventory: Inventory) -> None:
    inventory.facts["web1"] |= {"distribution": "Ubuntu", "distribution_major_version": "24"}


def spoil(group: str, **values: object) -> Callable[[Inventory], None]:
    return lambda inventory: inventory.set(group, **values)


WRONG = {
    "a worker on the database host, by name": (worker_on_the_database_by_name, "db1 is in both groups"),
    "a worker on the database host, by address": (
        worker_on_the_database_by_address,
        "db1 and worker2 have the address 192.0.2.21",
    ),
    "a worker on the database host, by machine": (
        worker_on_the_database_by_machine,
        "db1 and worker2 have the machine identity",
    ),
    "two names for one machine": (two_names_for_one_machine, "worker1 and worker2 are one machine"),
    "an empty group": (empty_group, "The group 'rabbitmq' has no host"),
    "an unsupported system": (unsupported_system, "web1 runs Ubuntu 24; the roles are proven on Debian 12, Debian 13"),
    "a second beat": (spoil("celery_workers", celery_worker_beat=True), "has 2 beats (worker1, worker2)"),
    "nobody left to work": (
        spoil("celery_workers", celery_worker_state="drained"),
        "All 2 workers of the application 'newsroom'",
    ),
    "a batch of nobody": (spoil("celery_workers", celery_worker_batch=["0"]), "celery_worker_batch holds '0'"),
    "concurrency 0": (
        spoil("celery_workers", celery_worker_concurrency=0),
        "celery_worker_concurrency is 0, but must be at least 1",
    ),
    "a word for a number": (spoil("celery_workers", celery_worker_concurrency="many"), "celery_worker_concurrency"),
    "a misspelt input": (spoil("celery_workers", celery_worker_concurency=8), "Did you mean celery_worker_concurrency?"),
    "a missing secret": (spoil("newsroom", application_broker_password="{{ vault_gone }}"), "'vault_gone' is undefined"),
    "pools above the server": (
        spoil("postgresql", postgresql_max_connections=60),
        "may open 81 connections to db1, which grants 57",
    ),
    "a task longer than its stop": (
        spoil("newsroom", application_time_limit=700),
        "application_time_limit is 700 s and celery_worker_stopwaitsecs is 600 s",
    ),
    "a watermark out of range": (spoil("rabbitmq", rabbitmq_vm_memory_high_watermark=0.95), "rabbitmq_vm_memory_high_watermark"),
    "a bouncer for everybody": (spoil("pgbouncer", pgbouncer_listen_addr="0.0.0.0"), "pgbouncer_listen_addr names 0.0.0.0"),
    "a setting that breaks the promise": (
        spoil("newsroom", application_celery_settings={"task_acks_late": False}),
        "application_celery_settings sets task_acks_late, which the promise needs",
    ),
    "a waiver without a reason": (
        spoil("newsroom", application_waivers={"task_acks_late": ""}),
        "task_acks_late without a reason",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_inventory_is_refused_by_its_sentence(inventory: Inventory, fault: str) -> None:
    spoiled, sentence = WRONG[fault]
    spoiled(inventory)
    done = inventory.judge()
    assert done.returncode != 0, done.stdout
    assert sentence in done.stdout, done.stdout + done.stderr
    assert "changed=0" in done.stdout and "changed=1" not in done.stdout
