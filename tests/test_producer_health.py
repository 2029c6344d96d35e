"""Role producer's last check, by Ansible itself on this machine: whatever is missing there, the reason is not hidden."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("logs", [["the last words"], []], ids=["with a log", "before any log"])
def test_a_producer_that_does_not_answer_is_named_with_its_log_or_without(tmp_path: Path, logs: list[str]) -> None:
    role = {"name": "grunnfjell.platform.producer", "tasks_from": "wait_healthy", "rolespec_validate": False}
    inputs = {
        "ansible_connection": "local",
        "producer_bind": "127.0.0.1:1",  # nobody listens there
        "producer_ca_file": "/nonexistent.pem",
        "producer_answer_timeout": 1,
        "producer_log_directory": str(tmp_path),
    }
    for line in logs:
        (tmp_path / "producer_0.err.log").write_text(f"{line}\n")
    playbook, inventory = tmp_path / "play.yml", tmp_path / "hosts.yml"
    playbook.write_text(
        yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role}]}])
    )
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"web1": inputs}}}))
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1"}
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, playbook],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    printed = " ".join(done.stdout.split())
    assert done.returncode and "https://127.0.0.1:1/healthz did not answer 200 within 1 s" in printed, done.stdout
    assert all(line in printed for line in logs)
