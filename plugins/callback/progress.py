"""The output of ansible-playbook: a live area on a terminal, the default output elsewhere."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.playbook.block import Block
from ansible.plugins.callback.default import CallbackModule as Default

from ..plugin_utils.progress import ending
from ..plugin_utils.progress.faults import Fault, failure, unreachable
from ..plugin_utils.progress.lines import lines_of
from ..plugin_utils.progress.live_area import LiveArea, LogOnly, wanted
from ..plugin_utils.progress.record import Record, count, duration, short_name

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: Show the state of each host, and end with a summary of the failures
description:
  - On a terminal, shows the play, the task with a bar of the hosts that have completed it, and a line for each host.
    Only warnings, reports, differences and failures stay on the screen.
  - With C(-v), C(--step), in CI (C(CI) is set), with C(TERM=dumb) and if the output is not a terminal, prints the output of
      P(ansible.builtin.default#callback).
    - Both end with the changes on each host, the time of each play, and last each failure, once, with its hosts. Ignored and
      rescued failures are not listed.
extends_documentation_fragment: [default_callback, result_format_callback]
requirements: [set as stdout_callback in ansible.cfg]
author: maintainers
"""


def is_rescued(task: Any) -> bool:
    """Whether a block around the task rescues its failure. Tasks of the rescue section are not rescued."""
    child, parent = task, task._parent
    while parent is not None:
        if isinstance(parent, Block) and parent.rescue:
            handlers = {step._uuid for step in [*parent.rescue, *parent.always]}
            if child._uuid not in handlers:
                return True
        child, parent = parent, parent._parent
    return False


def known_tasks(play: Any, variables: dict[str, Any]) -> frozenset[str]:
    """The tasks of every host of the play, as far as they are known before the run."""

    def ids(steps: list[Any]) -> Iterator[str]:
        for step in steps:
            if isinstance(step, Block):
                yield from ids([*step.block, *step.always])
            elif not step.implicit and step.action not in C._ACTION_META:
                yield step._uuid

    return frozenset(ids([block.filter_tagged_tasks(variables) for block in play.compile()]))


def place_of(task: Any) -> str:
    """File and line, relative to the working directory if possible."""
    path = task.get_path()
    # `make setup` links the checkout into .venv; show the original file.
    return os.path.realpath(path).removeprefix(os.path.realpath(os.getcwd()) + os.sep) if path else ""


class CallbackModule(Default):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "grunnfjell.platform.progress"

    def __init__(self) -> None:
        super().__init__()
        self._record = Record()
        self._faults: list[Fault] = []
        self._area: LiveArea | None = None
        self._columns: int | None = None  # of the terminal with the live area
        self._screen = self._display
        # An interrupted run, or one with an internal error of Ansible, has no recap.
        atexit.register(self._end)

    @contextmanager
    def _loud(self, loud: bool = True) -> Iterator[None]:
        """The default callback's output now also goes to the screen."""
        if isinstance(self._display, LogOnly):
            self._display.loud = loud
        try:
            yield
        finally:
            if isinstance(self._display, LogOnly):
                self._display.loud = False

    def _say(self, text: str, color: str | None = None) -> None:
        """Prints a line above the live area."""
        if self._area:
            self._screen.display(text, color=color, screen_only=True)

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._record = Record([play._uuid for play in playbook.get_plays()], context.CLIARGS.get("forks") or C.DEFAULT_FORKS)
        asks = context.CLIARGS.get("step") or C.ENABLE_TASK_DEBUGGER
        if not asks and wanted(os.environ, sys.stdout.isatty(), self._screen.verbosity):
            self._display = LogOnly(self._screen)
            self._area = LiveArea(self._screen, lambda columns, rows: lines_of(self._record, columns, rows, time.monotonic()))
        super().v2_playbook_on_start(playbook)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._end_play()
        variables = play.get_variable_manager().get_vars(play=play) if self._area else {}
        hosts = variables.get("ansible_play_batch", [])
        started = self._record.start_play(play._uuid, play.get_name(), hosts, time.monotonic())
        started.free = play.strategy.rpartition(".")[2] in ("free", "host_pinned")
        if self._area and started.free:
            started.known = known_tasks(play, variables)
        super().v2_playbook_on_play_start(play)

    def _end_play(self) -> None:
        self._record.end_play(time.monotonic())
        play = self._record.play
        if play and play.tasks:
            parts = [f"Play {play.number}: {play.name}", duration(play.seconds(0)), count(len(play.tasks), "task")]
            parts += [count(play.changes, "change")] if play.changes else []
            self._say(" · ".join(parts))

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        limit = task.throttle if isinstance(task.throttle, int) else 0
        self._record.start_task(task._uuid, task.get_name(), limit)
        super()._task_start(task, prefix)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._record.start_host(host.get_name(), task._uuid, task.get_name(), time.monotonic())
        super().v2_runner_on_start(host, task)

    def _name(self, task: Any) -> str:
        """The task's name at its start, when its variables were known."""
        return self._record.names.get(task._uuid) or short_name(task.get_name())

    @staticmethod
    def _censor(result: Any) -> None:
        """ansible-core censors the result of a task with no_log, but would print the message of its exception."""
        if "censored" in result.result:
            result.result.pop("exception", None)

    def _ended(self, result: Any, outcome: str, counts: bool = True) -> None:
        """counts: whether the recap counts a change by this task."""
        changed = counts and result.is_changed()
        self._record.end_host(result.host.get_name(), outcome, changed, time.monotonic())

    def v2_runner_on_ok(self, result: Any) -> None:
        self._ended(result, "ok")
        with self._loud(bool(result.result.get("_ansible_verbose_always"))):
            super().v2_runner_on_ok(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._ended(result, "skipped", counts=False)
        super().v2_runner_on_skipped(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        task = result.task
        self._ended(result, "failed", counts=ignore_errors)
        self._censor(result)
        if not ignore_errors:
            # A task with run_once counts for the whole play, whichever host it ran on.
            host = "" if task.run_once else result.host.get_name()
            name = self._name(task)
            which = f"{host}: {name}" if host else name
            if is_rescued(task):
                self._say(f"failed, now handled: {which}", C.COLOR_WARN)
            else:
                self._say(f"failed: {which}", C.COLOR_ERROR)
                self._faults.append(Fault(host, name, place_of(task), failure(result.result)))
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        host, task = result.host.get_name(), result.task
        self._ended(result, "unreachable", counts=False)
        self._censor(result)
        if not task.ignore_unreachable:
            self._say(f"unreachable: {host}: {self._name(task)}", C.COLOR_UNREACHABLE)
            self._faults.append(Fault(host, self._name(task), "", unreachable(result.result)))
        super().v2_runner_on_unreachable(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        self._record.end_item(result.host.get_name())
        with self._loud(bool(result.result.get("_ansible_verbose_always"))):
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        self._censor(result)
        self._record.end_item(result.host.get_name())
        super().v2_runner_item_on_failed(result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        self._record.end_item(result.host.get_name())
        super().v2_runner_item_on_skipped(result)

    def v2_runner_retry(self, result: Any) -> None:
        self._record.retry(result.host.get_name(), result.result.get("attempts", 0), result.result.get("retries", 0))
        super().v2_runner_retry(result)

    def v2_on_file_diff(self, result: Any) -> None:
        with self._loud():
            super().v2_on_file_diff(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._end_play()
        self._close_area()
        super().v2_playbook_on_stats(stats)
        checked = " (check mode: not made)" if context.CLIARGS.get("check") else ""
        self._section(f"CHANGES{checked}", ending.changes(self._record), C.COLOR_CHANGED)
        self._section("TIME", ending.times(self._record, time.monotonic()))
        self._end()

    def _close_area(self) -> None:
        if self._area:
            self._area.close()
            self._area, self._columns = None, shutil.get_terminal_size().columns
        self._display = self._screen

    def _end(self) -> None:
        self._close_area()
        faults, self._faults = self._faults, []
        self._section("FAILED", ending.faults(faults, self._columns), C.COLOR_ERROR)

    def _section(self, title: str, lines: list[str], color: str | None = None) -> None:
        if lines:
            self._screen.banner(title)
            self._screen.display("\n".join(lines), color=color)
