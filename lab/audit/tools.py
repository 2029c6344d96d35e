"""The auditors from PyPI, installed from their lock into build/audit."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from lab.machine import BIN, BUILD, Refusal
from lab.sources import read_pip_settings

LOCK = Path(__file__).with_name("requirements.txt")
HOME = BUILD / "audit/venv"


def tool(name: str) -> str:
    return str(HOME / "bin" / name)


def install() -> None:
    """Quick when nothing changed."""
    uv, mark = str(BIN / "uv"), HOME / "installed"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == wanted:
        return
    # uv does not read pip's configuration, so give it this machine's index.
    index = os.environ.get("UV_DEFAULT_INDEX") or read_pip_settings().get("index-url")
    environment = {**os.environ, "VIRTUAL_ENV": str(HOME), **({"UV_DEFAULT_INDEX": index} if index else {})}
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, HOME],
        [uv, "pip", "sync", "--quiet", "--system-certs", "--require-hashes", LOCK],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refusal(f"the auditors could not be installed:\n{done.stderr.strip()}")
    mark.write_text(wanted)
