"""Runs site.yml, or another playbook, on the fleet, before everyone's eyes."""

from __future__ import annotations

import subprocess
import time

from lab.demo.fleet import BIN
from lab.machine import REPOSITORY, Refusal


def converge(inventory: str, *arguments: str, playbook: str = "site.yml") -> float:
    began = time.monotonic()
    done = subprocess.run([str(BIN / "ansible-playbook"), "-i", inventory, *arguments, playbook], cwd=REPOSITORY, check=False)
    if done.returncode:
        raise Refusal(f"{playbook} did not converge; its output above says where it stopped.")
    return time.monotonic() - began
