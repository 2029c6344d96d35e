"""Run playbooks as an operator does: from the repository, with the tools of .venv."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.machine import BIN, REPOSITORY, Refusal


def command(inventory: str | Path, playbook: str, *arguments: str) -> list[str]:
    return [str(BIN / "ansible-playbook"), "-i", str(inventory), *arguments, playbook]


def attempt(
    inventory: str | Path,
    playbook: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run without showing it; stdout holds standard error too."""
    return subprocess.run(
        command(inventory, playbook, *arguments),
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def play(inventory: str | Path, playbook: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """The output of a playbook that must succeed."""
    done = attempt(inventory, playbook, *arguments, environment=environment)
    if done.returncode:
        raise Refusal(f"{playbook} failed for {inventory}:\n{done.stdout[-3000:]}")
    return done.stdout


def answer(inventory: str | Path, playbook: str) -> Any:
    """The JSON that a playbook writes to its variable `answer_file`. The file may hold secrets and is removed."""
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "answer.json")
        play(inventory, playbook, "-e", f"answer_file={file}")
        return json.loads(file.read_text(encoding="utf-8"))


def converge(inventory: str, *arguments: str, playbook: str = "site.yml") -> float:
    """Run with its output shown; returns the seconds that it took."""
    began = time.monotonic()
    done = subprocess.run(command(inventory, playbook, *arguments), cwd=REPOSITORY, check=False)
    if done.returncode:
        raise Refusal(f"{playbook} did not converge; its output above says where it stopped.")
    return time.monotonic() - began
