"""Runs a playbook of a test on hosts that are this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from lab.machine import REPOSITORY


def run_playbook(
    home: Path, plays: list[dict[str, Any]], hosts: dict[str, dict[str, Any]], *arguments: str | Path
) -> tuple[int, str]:
    """The exit code, and the output without line breaks. hosts: each host's variables."""
    inventory, playbook = home / "hosts.yml", home / "play.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"ansible_connection": "local"}}}))
    playbook.write_text(yaml.safe_dump(plays))
    environment = os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "NO_COLOR": "1"}
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, playbook, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())
