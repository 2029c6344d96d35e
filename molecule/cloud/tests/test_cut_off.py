"""A run that is killed anywhere is completed by the next one, down to the settings that each running service has read."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from authority import REPOSITORY
from host_states import differences
from playbook_runner import ANSIBLE_CONFIG, PlaybookRun

SEED, CUTS = 20261129, int(os.environ.get("CUTS", "20"))
# An edit that reaches every service: some are reloaded for it, some restarted.
EDIT = {
    "host_journal_max_use": "300M",
    "host_banner": "The other inventory.",
    "host_ssh_tcp_forwarding": True,
    "host_sysctl": {"net.core.somaxconn": 2048, "net.ipv4.conf.*.rp_filter": 2, "net.ipv4.conf.*.log_martians": 0},
    "rabbitmq_vm_memory_high_watermark": 0.6,
    "postgresql_parameters": {"log_min_duration_statement": 750},
    "pgbouncer_server_login_retry": 2,
    "celery_worker_concurrency": 3,
    "producer_threads": 12,
}
# Process ids differ between runs; command lines are compared.
PROCESSES = ("units", "programs")


@pytest.fixture(scope="module")
def inventories(inventory):
    edited = Path(f"{inventory.rstrip('/')}-edited")
    shutil.rmtree(REPOSITORY / edited, ignore_errors=True)
    shutil.copytree(REPOSITORY / inventory, REPOSITORY / edited, symlinks=True)
    (REPOSITORY / edited / "group_vars/all/zz_edit.yml").write_text(yaml.safe_dump(EDIT), encoding="utf-8")
    yield [inventory, str(edited)]
    shutil.rmtree(REPOSITORY / edited)


@pytest.fixture(scope="module")
def whole(site, state):
    """The state of the hosts, and whether each running sshd forwards connections."""

    def read():
        current = state()
        for host in site.hosts:
            key = ["-i", host.key, "-l", host.user, "-p", str(host.port), *shlex.split(host.ssh_arguments)]
            options = ["-o", "BatchMode=yes", "-o", "ControlPath=none", "-W", f"127.0.0.1:{host.port}"]
            done = subprocess.run(
                ["ssh", *key, *options, host.login], cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
            current[host.name]["sshd"] = {"forwards": done.stdout.startswith(b"SSH-")}
        return current

    return read


def converge(inventory: str, task: int = 0, after: float = 0) -> PlaybookRun:
    """Run site.yml, and kill the run `after` seconds from the start of task number `task`; 0: not killed."""
    environment = {
        **ANSIBLE_CONFIG,
        "ANSIBLE_CALLBACK_PLUGINS": str(REPOSITORY / "molecule/cloud/callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "cut_off",
        "CUT_OFF_TASK": str(task),
        "CUT_OFF_AFTER": str(after),
    }
    done = subprocess.run(
        [REPOSITORY / ".venv/bin/ansible-playbook", "-i", inventory, "site.yml"], cwd=REPOSITORY, env=os.environ | environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True,
    )  # fmt: skip
    return PlaybookRun(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def uninterrupted(inventories, whole):
    """For each of the two inventories, the state after a complete run, and the number of its tasks."""
    results = {}
    for inventory in inventories[::-1]:
        run = converge(inventory)
        assert run.returncode == 0, run.output[-6000:]
        (tasks,) = re.findall(r"^TASKS BEGUN: (\d+)", run.output, re.MULTILINE)
        results[inventory] = (whole(), int(tasks))
    plain, edited = (results[inventory][0] for inventory in inventories)
    parts = {line.split(": ")[1] for line in differences(plain, edited)}
    assert parts >= {"files", "firewall", "kernel", "journal", "broker", "database", "pooler", "commands", "sshd"}, parts
    return results


@pytest.mark.parametrize("number", range(CUTS))
def test_a_killed_run_is_completed_by_the_next(number, inventories, uninterrupted, whole):
    inventory = inventories[(number + 1) % 2]
    state, tasks = uninterrupted[inventory]
    chance = random.Random(f"{SEED}/{number}")
    task, after = chance.randint(1, tasks), round(chance.uniform(0, 2), 2)
    killed = converge(inventory, task, after)
    (name,) = re.findall(r"^CUT OFF: (.*)$", killed.output, re.MULTILINE)
    assert killed.returncode == -signal.SIGKILL, killed.output[-2000:]
    print(f"cut {number}: {after} s into task {task} of {tasks}, {name!r}", flush=True)
    run = converge(inventory)
    assert run.returncode == 0, f"cut at {name!r}:\n{run.output[-6000:]}"
    changes = differences(state, whole(), ignored=PROCESSES)
    assert not changes, f"cut at {name!r}:\n" + "\n".join(changes)
