"""What a row consists of, and the actions that several rows share."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lab import playbooks
from lab.demo.fleet import Fleet, Host
from lab.drill import hosts
from lab.drill.hosts import shell
from lab.drill.rows import SILENT
from lab.drill.scene import Scene
from lab.machine import Refusal

# The promise: seconds from a fault's end to work. If systemd must start a killed service, the fault ends when it has; the row's
# `ends_within_s` limits that, so the whole recovery from the kill on has a limit.
WITHIN_S = {"process": 5.0, "host": 60.0}
PLAYBOOK_S = 1200.0

NOW = "\ndate +%s.%N\n"

Place = Callable[[Fleet], Host]
Moment = Callable[[Scene], float]


@dataclass(frozen=True)
class Reading:
    """A value on a host that must change during the fault or after it; otherwise the fault struck nobody."""

    what: str
    place: Place
    script: str

    def name(self, scene: Scene) -> str:
        return f"{self.what} on {self.place(scene.fleet).name}"

    def look(self, scene: Scene) -> str:
        try:
            return " ".join(shell(self.place(scene.fleet), self.script).split())
        except Refusal:
            return SILENT


@dataclass(frozen=True)
class Fault:
    """`hurt` and `heal` return the moment of their effect; the fault ends with the last of them.

    `heal` is also called if `hurt` or anything after it failed.
    """

    name: str
    kind: str
    hurt: Moment
    heal: Moment | None = None
    hold_s: float = 0.0
    # From its start to its end, `hold_s` included.
    ends_within_s: float = 0.0
    # The longest time in which no job may be accepted, and in which none may be done; 0: no limit.
    accept_gap_s: float = 0.0
    work_gap_s: float = 0.0
    # The host whose work must resume; None: any.
    affects: Place | None = None
    # The fault affects who answers 202: work has resumed with a job accepted after the end.
    accepts: bool = False
    # An operation that promises to cut no run: no second delivery, only 202.
    seamless: bool = False
    # Evidence that it struck, at least one: figures of the row that may not be 0, and readings that must change.
    shows: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    # Prepared before the load begins, and undone after it.
    stage: Callable[[Scene], AbstractContextManager[None]] | None = None


def on(place: Place, script: str, then: str = "") -> Moment:
    return lambda scene: float(shell(place(scene.fleet), script + NOW + then).split()[-1])


def amid_work(moment: Moment) -> Moment:
    """Strike while the worker host's processes run jobs."""

    def strike(scene: Scene) -> float:
        scene.busy(hosts.worker(scene.fleet))
        return moment(scene)

    return strike


def now(scene: Scene) -> float:
    """The operation before has ended."""
    return time.time()


def playbook(scene: Scene, name: str, *arguments: str) -> float:
    """Returns when it began."""
    began = time.time()
    done = attempt(scene, name, *arguments)
    if done.returncode:
        raise Refusal(f"{name} failed:\n" + "\n".join(done.stdout.splitlines()[-40:]))
    return began


def attempt(scene: Scene, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return playbooks.attempt(scene.inventory, name, *arguments, timeout_s=PLAYBOOK_S)
