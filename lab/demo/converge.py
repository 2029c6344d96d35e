"""Runs site.yml on the fleet, before everyone's eyes."""

from __future__ import annotations

import subprocess
import time

from lab.demo.fleet import BIN
from lab.machine import REPOSITORY, Refusal


def converge(inventory: str) -> float:
    began = time.monotonic()
    done = subprocess.run([str(BIN / "ansible-playbook"), "-i", inventory, "site.yml"], cwd=REPOSITORY, check=False)
    if done.returncode:
        raise Refusal("site.yml did not converge; its output above says where it stopped.")
    return time.monotonic() - began
