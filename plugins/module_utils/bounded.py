"""A command that ends in time, with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any


def run(argv: list[str], timeout: float, stdin: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """As subprocess.run, but a timeout ends the whole family.

    rabbitmqctl and runuser hand on to a child; killed alone, they leave it behind, and it holds the pipe that is waited for.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, text=True, start_new_session=True, **pipes, **options) as process:
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)
