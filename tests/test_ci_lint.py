"""The syntax checks of ansible-lint are forks of one process, and answer as ansible-playbook does."""

import os
import subprocess
from pathlib import Path

import pytest

from lab.ci.lint import SyntaxChecks
from lab.machine import BIN, REPOSITORY

SOUND = "- name: Say it\n  hosts: localhost\n  tasks:\n    - name: Say it\n      ansible.builtin.debug:\n"
FAULTS = {"sound": SOUND, "no module": SOUND.replace("debug", "deebug"), "no YAML": "- name: [", "no play": "- nonsense: 1\n"}


@pytest.fixture(scope="module")
def checks(tmp_path_factory):
    checks = SyntaxChecks(tmp_path_factory.mktemp("checks"))
    yield checks
    checks.stop()


@pytest.mark.parametrize("text", FAULTS.values(), ids=FAULTS)
def test_a_fork_answers_as_ansible_playbook_does(checks, write, text) -> None:
    command = ["ansible-playbook", "--syntax-check", "-vv", str(write("play.yml", text))]
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONWARNINGS": "ignore"}
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "check": False, "cwd": REPOSITORY}
    real = subprocess.run(command, env=environment, **options)
    assert (real.returncode != 0) == (text != SOUND)
    fork = checks.run(command, env=environment, **options)
    assert fork.returncode == real.returncode
    assert fork.stderr == real.stderr
    # The first lines name the program and its path.
    assert fork.stdout.splitlines()[7:] == real.stdout.splitlines()[7:], fork.stdout


def test_another_environment_has_a_run_of_its_own(write) -> None:
    checks = SyntaxChecks(Path("/nonexistent"))
    checks.server = "of another environment"
    command = ["ansible-playbook", "--syntax-check", str(write("play.yml", SOUND))]
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    options = {"capture_output": True, "text": True, "check": False, "cwd": REPOSITORY}
    assert checks.run(command, env=environment, **options).returncode == 0
