"""A run of the operator is struck in its midst: the control node dies, or what leads in the fleet."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

from lab.drill.scene import Scene
from lab.machine import REPOSITORY, Refusal
from lab.playbooks import command

LAST_LINES = 40


def struck(
    scene: Scene, playbook: str, *arguments: str, task: str, occurrence: int, strike: Callable[[int], None]
) -> tuple[int, str]:
    """Runs the playbook and strikes, with the number of its process, when this occurrence of the task begins.

    Returns its exit status and its output. A run that ends without being struck raises Refusal.
    """
    run = subprocess.Popen(
        command(scene.inventory, playbook, *arguments),
        cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    output = []
    for line in run.stdout or []:
        output.append(line)
        if line.startswith("TASK [") and f"{task}]" in line:
            occurrence -= 1
            if not occurrence:
                strike(run.pid)
    status = run.wait()
    if occurrence > 0:
        raise Refusal(f"{playbook} was to be struck in {task!r}, but ended:\n{''.join(output[-LAST_LINES:])}")
    return status, "".join(output)


def cut_off(scene: Scene, playbook: str, *arguments: str, task: str, occurrence: int = 1) -> None:
    """The control node dies in this task."""

    def kill(pid: int) -> None:
        os.killpg(pid, signal.SIGKILL)

    status, output = struck(scene, playbook, *arguments, task=task, occurrence=occurrence, strike=kill)
    if status != -signal.SIGKILL:
        raise Refusal(f"{playbook} was to be cut off in {task!r}, but ended:\n{output[-3000:]}")
