"""Runs ansible-playbook as an operator does, and reads its output."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authority import REPOSITORY

ANSIBLE_CONFIG = {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}


@dataclass(frozen=True)
class PlaybookRun:
    """output: as printed.  text: without line breaks, which Ansible puts wherever the terminal's width ends."""

    returncode: int
    output: str

    @property
    def text(self) -> str:
        return " ".join(self.output.split())

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Host to its numbers in Ansible's recap: ok, changed, failed, ..."""
        lines = re.findall(r"^(\S+) +: (ok=.*)$", self.output, re.MULTILINE)
        return {host: {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", line)} for host, line in lines}

    @property
    def changed(self) -> dict[str, int]:
        """The hosts that the run changed, and in how many tasks."""
        return {host: numbers["changed"] for host, numbers in self.recap.items() if numbers["changed"]}

    @property
    def failed(self) -> list[str]:
        return [host for host, numbers in self.recap.items() if numbers["failed"]]

    def assert_failed(self, *sentences: str) -> None:
        assert self.returncode != 0, self.output
        for sentence in sentences:
            assert sentence in self.text, self.output

    def assert_refused(self, *sentences: str) -> None:
        """It failed before any change."""
        self.assert_failed(*sentences)
        assert self.recap and self.changed == {}, self.output


def play(
    inventory: str | Path,
    playbook: str | Path,
    *arguments: str | Path,
    variables: Mapping[str, Any] | None = None,
    prefix: Sequence[str] = (),
) -> PlaybookRun:
    """Run a playbook, by its path in the repository. variables override the inventory; prefix: sudo, where root is needed."""
    command = [*prefix, Path(sys.executable).parent / "ansible-playbook", "-i", inventory, playbook, *arguments]
    if variables is not None:
        command += ["-e", json.dumps(variables)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | ANSIBLE_CONFIG,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return PlaybookRun(done.returncode, done.stdout + done.stderr)
