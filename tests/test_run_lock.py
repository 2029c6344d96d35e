"""Review finding 38: the second of two runs on one fleet stops and names the first."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.run_lock import NAME, RunUnderWay, hold

ROOT = Path(__file__).resolve().parents[1]
PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: Refuse to change a fleet that another run is changing
      grunnfjell.platform.run_lock: {inventory: "{{ inventory_dir }}"}
    - name: Work until the test has seen enough
      ansible.builtin.wait_for: {path: "{{ inventory_dir }}/seen", sleep: 1, timeout: 120}
"""


@pytest.fixture
def other():
    """Another process of this machine."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def refusal(inventory: Path) -> str:
    """The refusal of a run by this process; empty if it may begin."""
    try:
        hold(inventory, os.getpid(), ["site.yml"])
    except RunUnderWay as refused:
        return str(refused)
    return ""


def test_a_run_is_named_until_it_ends(tmp_path: Path, other: subprocess.Popen) -> None:
    hold(tmp_path, other.pid, ["site.yml"])
    hold(tmp_path, other.pid, ["site.yml"])  # each of its playbooks asks
    with pytest.raises(RunUnderWay, match=f"Another run is changing this fleet: site.yml, process {other.pid}, since "):
        hold(tmp_path, os.getpid(), ["site.yml"])
    other.kill()
    other.wait()
    hold(tmp_path, os.getpid(), ["playbooks/rotate.yml"])
    assert json.loads((tmp_path / NAME).read_text())["playbooks"] == ["playbooks/rotate.yml"]


def test_another_process_with_the_same_number_does_not_hold_the_lock(tmp_path: Path, other: subprocess.Popen) -> None:
    hold(tmp_path, other.pid, ["site.yml"])
    held = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps(held | {"started": "1"}))
    assert refusal(tmp_path) == ""


@pytest.mark.parametrize("text", ["", "half of a l", "{}"])
def test_an_invalid_file_does_not_hold_the_lock(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    assert refusal(tmp_path) == ""


def test_the_second_of_two_runs_stops_and_names_the_first(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: {hosts: {localhost: {ansible_connection: local}}}\n")
    (tmp_path / "work.yml").write_text(PLAY)
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "work.yml"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as first:
        deadline = time.monotonic() + 60
        while not (tmp_path / NAME).exists() or not (tmp_path / NAME).read_text().endswith("}"):
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)  # between two looks
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        output = " ".join(second.stdout.split())
        assert second.returncode != 0 and f"process {first.pid}, since" in output, output
        (tmp_path / "seen").touch()
        assert first.wait(60) == 0, first.stdout.read()
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
