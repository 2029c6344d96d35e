"""What a row consists of, and the blows that several rows share."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lab.demo.fleet import BIN, Fleet, Host
from lab.drill import hosts
from lab.drill.hosts import shell
from lab.drill.rows import SILENT
from lab.drill.scene import Scene
from lab.machine import REPOSITORY, Refusal

# The promise: seconds from a fault's end to work again. A fault whose victim must first start again ends when systemd has started
# it; how long that may take is the row's `ends_within_s`, so the whole recovery, from the kill on, has a limit too.
WITHIN_S = {"process": 5.0, "host": 60.0}
# Until a playbook must have come to its end.
PLAYBOOK_S = 1200.0

NOW = "\ndate +%s.%N\n"

Place = Callable[[Fleet], Host]
Moment = Callable[[Scene], float]


@dataclass(frozen=True)
class Reading:
    """Something on a host that must differ between before the fault and some time after it; otherwise the fault struck nobody."""

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
    """`hurt` and `heal` answer the moment at which they had their effect; the fault ends with the last of them.

    `heal` is also called where `hurt` or anything after it failed.
    """

    name: str
    kind: str
    hurt: Moment
    heal: Moment | None = None
    hold_s: float = 0.0
    # From its beginning to its end at most, `hold_s` included.
    ends_within_s: float = 0.0
    # The host whose work must go on; none means anywhere.
    affects: Place | None = None
    # Who answers 202 was struck: it is at work again with a job that was accepted after the end.
    accepts: bool = False
    # An operation that promises to cut nobody: no second delivery, no answer but 202.
    seamless: bool = False
    # Evidence that it struck: figures of the row that may not be 0, and readings that must change. One of them at least.
    shows: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    # What must be in place before the load begins, and is put back after it.
    stage: Callable[[Scene], AbstractContextManager[None]] | None = None


def on(place: Place, script: str, then: str = "") -> Moment:
    return lambda scene: float(shell(place(scene.fleet), script + NOW + then).split()[-1])


def amid_work(moment: Moment) -> Moment:
    """Strike when the hurt worker's processes are in the midst of something."""

    def strike(scene: Scene) -> float:
        scene.busy(hosts.worker(scene.fleet))
        return moment(scene)

    return strike


def now(scene: Scene) -> float:
    """The operation that went before has come to its end."""
    return time.time()


def playbook_command(scene: Scene, name: str, *arguments: str) -> list[str]:
    return [str(BIN / "ansible-playbook"), "-i", scene.inventory, *arguments, name]


def playbook(scene: Scene, name: str, *arguments: str) -> float:
    """Answers when it began."""
    began = time.time()
    done = attempt(scene, name, *arguments)
    if done.returncode:
        raise Refusal(f"{name} failed:\n" + "\n".join(done.stdout.splitlines()[-40:]))
    return began


def attempt(scene: Scene, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        playbook_command(scene, name, *arguments),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=PLAYBOOK_S,
    )
