"""Runs a command with a timeout that also kills its children."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any


def run(argv: list[str], timeout: float, stdin: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """As subprocess.run, but a timeout kills the whole process group.

    rabbitmqctl and runuser fork. Kill only the parent and the orphan keeps our pipe open, so communicate() never returns.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, text=True, start_new_session=True, **pipes, **options) as process:
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def identity(account: str) -> dict[str, Any]:
    """Options of subprocess for a command of an account; nothing where that account, and not root, runs this program."""
    return {"user": account, "group": account, "extra_groups": []} if os.geteuid() == 0 else {}
