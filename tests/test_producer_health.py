"""Role producer's last check, by Ansible itself on this machine: whatever is missing there, the reason is not hidden."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_playbook import run_playbook


@pytest.mark.parametrize("log", ["the last words", ""], ids=["with a log", "before any log"])
def test_a_producer_that_does_not_answer_is_named_with_its_log_or_without(tmp_path: Path, log: str) -> None:
    role = {"name": "grunnfjell.platform.producer", "tasks_from": "wait_healthy", "rolespec_validate": False}
    inputs = {
        "producer_bind": "127.0.0.1:1",  # nobody listens there
        "producer_wsgi_app": "served:app",
        "producer_ca_file": "/nonexistent.pem",
        "producer_answer_timeout": 1,
        "producer_log_directory": str(tmp_path),
    }
    if log:
        (tmp_path / "producer_0.err.log").write_text(f"{log}\n")
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role}]}
    code, output = run_playbook(tmp_path, [play], {"web1": inputs})
    assert code and "https://127.0.0.1:1/healthz did not answer 200 within 1 s" in output and log in output, output


def test_a_named_web_server_that_does_not_answer_is_named_with_its_own_log(tmp_path: Path) -> None:
    """nginx answers for neither here. The first of them is reported, and of its program only the log."""
    for program in ("producer", "producer-live"):
        (tmp_path / f"{program}_0.err.log").write_text(f"the last words of {program}\n")
    server = {"program": "producer-live", "health_path": "/ws/health"}
    inputs = {
        "producer_bind": "127.0.0.1:1",
        "producer_ca_file": "/nonexistent.pem",
        "producer_answer_timeout": 1,
        "producer_log_directory": str(tmp_path),
        "__producer_servers": [server],
    }
    role = {"name": "grunnfjell.platform.producer", "tasks_from": "wait_answer", "rolespec_validate": False}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role, "vars": inputs}]}
    code, output = run_playbook(tmp_path, [play], {"web1": {}})
    assert code and "https://127.0.0.1:1/ws/health did not answer 200 within 1 s" in output, output
    assert "the last words of producer-live" in output and "the last words of producer " not in output, output
