"""Tasks that install or remove Debian packages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.machine import REPOSITORY

APT = ("ansible.builtin.apt", "apt")
NESTED = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")
FILES = sorted(path for home in ("roles", "playbooks") for path in (REPOSITORY / home).rglob("*.yml"))


def apt_tasks(entries: Any) -> Iterator[dict[str, Any]]:
    """The tasks with apt in plays, tasks and blocks, at any depth."""
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            yield from (entry for module in APT if module in entry)
            for key in NESTED:
                yield from apt_tasks(entry.get(key))


def impatient(entries: Any) -> list[str]:
    """Names of the tasks that fail at once while another program has apt's locks."""
    arguments = [(task, task[module]) for task in apt_tasks(entries) for module in APT if module in task]
    return [task.get("name", "") for task, given in arguments if not isinstance(given, dict) or "lock_timeout" not in given]


def test_tasks_with_packages_are_found_in_roles_and_playbooks() -> None:
    homes = {path.relative_to(REPOSITORY).parts[0] for path in FILES if list(apt_tasks(yaml.safe_load(path.read_text())))}
    assert homes == {"roles", "playbooks"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_task_with_packages_waits_for_the_locks_of_apt(path: Path) -> None:
    """cloud-init and unattended upgrades hold them for minutes; without lock_timeout, Ansible gives up after one."""
    assert impatient(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


def test_an_impatient_task_is_found_inside_a_block_of_a_play() -> None:
    task = {"name": "Install", "ansible.builtin.apt": {"name": "nginx"}}
    assert impatient([{"hosts": "all", "tasks": [{"block": [{"rescue": [task]}]}]}]) == ["Install"]
    task["ansible.builtin.apt"]["lock_timeout"] = 600
    assert impatient([task]) == []
