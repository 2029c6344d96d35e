"""The power of a core host fails: it is a virtual machine, whose memory is lost with all that it has not flushed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from lab import playbooks, power
from lab.deadlines import until
from lab.demo.fleet import Fleet
from lab.drill.faults.fault import Fault, Moment, Reading, amid_work
from lab.drill.faults.members import LEADER, PRIMARY, Member
from lab.drill.hosts import shell
from lab.drill.scene import Scene
from lab.machine import BUILD, Refusal

# Longer than it takes the others to notice the silence of a broker (10 s) and of a primary (20 s).
OFF_S = 60.0
BOOT_S = 300.0
WHOLE_S = 600.0

# A file with two contents, of which only the first is flushed.
FILE = "/var/lib/power-cut"
FLUSHED, NOT_FLUSHED = "flushed", "written"
PREPARE = f"printf '{FLUSHED}' >{FILE}; sync"
WRITE = f"printf '{NOT_FLUSHED}' | dd of={FILE} conv=notrunc status=none; cat {FILE}"
BOOT = "cat /proc/sys/kernel/random/boot_id"


def cut_power(place: Member) -> Moment:
    def moment(scene: Scene) -> float:
        host = place(scene.fleet)
        if shell(host, WRITE) != NOT_FLUSHED:
            raise Refusal(f"{host.name} has not written {FILE}.")
        began = time.time()
        power.cut(host.name)
        return began

    return moment


def restore_power(place: Member) -> Moment:
    """Until `status` finds nothing that needs attention, as before the cut."""

    def moment(scene: Scene) -> float:
        host = place(scene.fleet)
        power.restore(host.name)
        until(f"the boot of {host.name}", lambda: answers(scene, place), BOOT_S)
        if (left := shell(host, f"cat {FILE}")) != FLUSHED:
            raise Refusal(f"{host.name} has {left!r} in {FILE}, which was never flushed: its power was not cut.")
        until("a fleet that is whole", lambda: not attention(scene.inventory), WHOLE_S)
        return time.time()

    return moment


def answers(scene: Scene, place: Member) -> bool:
    try:
        return bool(shell(place(scene.fleet), BOOT))
    except Refusal:
        return False


def give_disks(fleet: Fleet, inventory: str) -> None:
    """Core hosts lose with their power what they have not flushed."""
    for host in fleet.group("etcd"):
        power.give_disk(host.name)
    until("a fleet that needs no attention", lambda: not attention(inventory), WHOLE_S)


def attention(inventory: str) -> set[str]:
    """What `status` asks an operator to look at, such as a member that does not run."""
    file = BUILD / "status.json"
    file.unlink(missing_ok=True)
    done = playbooks.attempt(inventory, "playbooks/status.yml")
    if not file.exists():
        raise Refusal(f"playbooks/status.yml wrote no report:\n{done.stdout[-3000:]}")
    report = json.loads(file.read_text(encoding="utf-8"))
    return {*report["attention"], *([] if report["accepting"] else [report["verdict"]])}


def prepared(place: Member) -> Callable[[Scene], AbstractContextManager[None]]:
    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        with place.chosen(scene):
            shell(place(scene.fleet), PREPARE)
            yield

    return stage


def row(name: str, place: Member) -> Fault:
    return Fault(
        f"power of the {name} host cut", "host", amid_work(cut_power(place)), restore_power(place), hold_s=OFF_S,
        ends_within_s=OFF_S + BOOT_S + WHOLE_S, accepts=True, stage=prepared(place), readings=(Reading("boot", place, BOOT),),
    )  # fmt: skip


POWER = (row("leading broker's", LEADER), row("primary's", PRIMARY))
