"""Kills the run during one of its tasks, as a lost control machine would."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: cut_off
type: aggregate
short_description: Kill ansible-playbook at a task
description:
  - Kills the process group with SIGKILL a given time after a given task began. Prints the task's name.
options:
  task: {description: "The task's number, from 1.", type: int, default: 0, env: [{name: CUT_OFF_TASK}]}
  after: {description: Seconds after its beginning., type: float, default: 0, env: [{name: CUT_OFF_AFTER}]}
"""


def kill_all() -> None:
    # Each worker runs in a separate session and would outlive the main process.
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGKILL)
    os.killpg(os.getpgrp(), signal.SIGKILL)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "cut_off"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._begun = 0

    def v2_playbook_on_task_start(self, task, is_conditional) -> None:
        self._begun += 1
        if self._begun == self.get_option("task"):
            print(f"CUT OFF: {task.get_name()}", flush=True)
            # After a delay, so the task has begun on the hosts.
            threading.Timer(self.get_option("after"), kill_all).start()

    def v2_playbook_on_stats(self, stats) -> None:
        print(f"TASKS BEGUN: {self._begun}", flush=True)
