"""Ansible itself, on hosts that are this machine: one of a batch is lost in its middle, and no later batch begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from local_playbook import run_playbook

ROOT = Path(__file__).resolve().parents[1]
# Where nobody listens.
LOST = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def plays_of(name: str) -> list[dict]:
    return yaml.safe_load((ROOT / f"playbooks/{name}.yml").read_text(encoding="utf-8"))


def touch(path: str) -> dict:
    return {"ansible.builtin.file": {"path": path, "state": "touch"}}


@pytest.mark.parametrize("name", ["celery_worker", "producer"])
def test_a_host_that_is_lost_in_its_batch_is_named_and_no_later_batch_begins(tmp_path: Path, name: str) -> None:
    """The playbook's play of batches, with a task in place of the role's: it touches a file."""
    (batches,) = [play for play in plays_of(name) if "serial" in play]
    assert "restart" in str(batches["tasks"][0])
    tasks = [touch(f"{tmp_path}/{{{{ inventory_hostname }}}}"), *batches["tasks"][1:]]
    stand_in = batches | {"hosts": "all", "serial": 2, "gather_facts": False, "tasks": tasks}
    code, output = run_playbook(tmp_path, [stand_in], {"a": {}, "b": LOST, "c": {}})
    assert code and (tmp_path / "a").exists() and not (tmp_path / "c").exists(), output
    assert "b became unreachable during its batch. Later batches were not started." in output


PARTS = ("rotation_vault", "rotation_trust", "rotation_step", "rotation_check_retired")
STEPS = [play for name in PARTS for play in plays_of(name) if "hosts" in play]


@pytest.mark.parametrize("step", STEPS, ids=lambda play: play["name"])
def test_a_host_that_is_lost_in_a_step_of_a_rotation_stops_it_before_the_next(tmp_path: Path, step: dict) -> None:
    """The next step would take away what the lost host still uses."""
    stand_in = step | {"hosts": "all", "tasks": [touch(f"{tmp_path}/{{{{ inventory_hostname }}}}")]}
    following = {"hosts": "all", "gather_facts": False, "tasks": [touch(f"{tmp_path}/next")]}
    code, output = run_playbook(tmp_path, [stand_in, following], {"a": {}, "b": LOST})
    assert code and (tmp_path / "a").exists() and not (tmp_path / "next").exists(), output
