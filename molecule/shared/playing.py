"""ansible-playbook as an operator runs it, and what it said."""

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

# Host to its numbers in Ansible's recap: ok, changed, failed ...
Counts = dict[str, dict[str, int]]


def changed(counts: Counts) -> dict[str, int]:
    """The hosts that a run changed, and in how many tasks."""
    return {host: count["changed"] for host, count in counts.items() if count["changed"]}


@dataclass(frozen=True)
class Played:
    """printed: all of it, as it came; said: without its line breaks, which Ansible puts where the width ends."""

    returncode: int
    printed: str

    @property
    def said(self) -> str:
        return " ".join(self.printed.split())

    @property
    def counts(self) -> Counts:
        recap = re.findall(r"^(\S+) +: (ok=.*)$", self.printed, re.MULTILINE)
        return {host: {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", line)} for host, line in recap}

    @property
    def changed(self) -> dict[str, int]:
        return changed(self.counts)


def play(
    inventory: str | Path,
    playbook: str | Path,
    *arguments: str | Path,
    variables: Mapping[str, Any] | None = None,
    prefix: Sequence[str] = (),
) -> Played:
    """A playbook, by its path in the repository. variables lie over the inventory's; prefix: sudo, where it must be root."""
    command = [*prefix, Path(sys.executable).parent / "ansible-playbook", "-i", inventory, playbook, *arguments]
    if variables is not None:
        command += ["-e", json.dumps(variables)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Played(done.returncode, done.stdout + done.stderr)
