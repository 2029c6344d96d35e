"""A rollout of the example application: an edit of its code, and the programs on a host before and after."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authority import REPOSITORY
from playbook_runner import PlaybookRun


def newsroom_with(home: Path, file: str, old: str, new: str) -> tuple[str, str]:
    """Arguments of ansible-playbook for the example's code with one edit."""
    source = home / "newsroom"
    shutil.copytree(REPOSITORY / "examples/newsroom", source, ignore=shutil.ignore_patterns("__pycache__"))
    text = (source / "newsroom" / file).read_text(encoding="utf-8")
    assert old in text
    (source / "newsroom" / file).write_text(text.replace(old, new), encoding="utf-8")
    return "--extra-vars", json.dumps({"application_source": {"directory": str(source)}})


LOGGER = "log = get_task_logger(__name__)"
# The release's code shows nothing of it before a worker starts.
AT_THE_START = f"""
{LOGGER}
from celery.signals import celeryd_init
@celeryd_init.connect(weak=False)
def hurry(conf, **_):
    conf.worker_prefetch_multiplier = 4
"""
REFUSED_AT_THE_START = "worker_prefetch_multiplier is 4, but the promise needs 1"


def newsroom_that_breaks_the_promise_at_its_start(home: Path) -> tuple[str, str]:
    return newsroom_with(home, "tasks.py", LOGGER, AT_THE_START)


@dataclass(frozen=True)
class Programs:
    """release: the current one.  running: releases in the command lines of processes.  states: program to supervisord's state."""

    release: str
    running: frozenset[str]
    states: dict[str, str]
    pids: tuple[str, ...]

    @property
    def intact(self) -> tuple[object, ...]:
        """What a rollback restores: everything but the process ids."""
        return self.release, self.running, self.states


def programs_of_all(fleet: dict[str, Any]) -> dict[str, Programs]:
    return {name: programs_of(host) for name, host in fleet.items()}


def assert_one_host_was_rolled_back(run: PlaybookRun, before: dict[str, Programs], after: dict[str, Programs]) -> None:
    run.assert_failed("This batch was rolled back, and later batches were not started.")
    assert {name: programs.intact for name, programs in after.items()} == {
        name: programs.intact for name, programs in before.items()
    }
    # It changed its programs and changed them back; the others never did.
    assert sum(after[name].pids != before[name].pids for name in before) == 1


def programs_of(host: Any) -> Programs:
    """The programs once none is STARTING, which supervisord reports for startsecs after each start."""
    deadline = time.monotonic() + 60
    while "STARTING" in (status := host.run("supervisorctl status").stdout) and time.monotonic() < deadline:
        time.sleep(0.5)  # between two looks; `deadline` ends them
    return Programs(
        host.check_output("basename $(readlink /opt/newsroom/current)"),
        frozenset(re.findall(r"/opt/newsroom/releases/([0-9a-f]+)/venv", host.check_output("ps -eo args"))),
        {line.split()[0]: line.split()[1] for line in status.splitlines()},
        tuple(host.run("supervisorctl pid all").stdout.split()),
    )
