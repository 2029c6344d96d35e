"""The power of a core host fails: what it has not flushed to its disk is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from lab import playbooks, power
from lab.deadlines import until
from lab.drill.faults.fault import Fault, Moment, amid_work
from lab.drill.faults.members import CUT_S, LEADER, PRIMARY, Member, init
from lab.drill.hosts import shell
from lab.drill.scene import Scene
from lab.machine import BUILD, Refusal

# A file with two contents, of which only the first is flushed.
FILE = "/var/lib/power-cut"
FLUSHED, NOT_FLUSHED = "flushed", "written"
PREPARE = f"printf {FLUSHED} >{FILE}; sync"
WRITE = f"printf {NOT_FLUSHED} | dd of={FILE} conv=notrunc status=none; cat {FILE}"
# On a machine with a load of 40 `status` itself gets no answer from the brokers.
WHOLE_S = 600.0


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
        if (left := shell(host, f"cat {FILE}")) != FLUSHED:
            raise Refusal(f"{host.name} has {left!r} in {FILE}, which was never flushed: its power was not cut.")
        wait_until_whole(scene)
        return time.time()

    return moment


def wait_until_whole(scene: Scene) -> None:
    until("a fleet that needs no attention", lambda: not attention(scene), WHOLE_S)


def attention(scene: Scene) -> list[str]:
    """What `status` asks an operator to look at, such as a member that does not run."""
    file = BUILD / "status.json"
    file.unlink(missing_ok=True)
    done = playbooks.attempt(scene.inventory, "playbooks/status.yml")
    if not file.exists():
        raise Refusal(f"playbooks/status.yml wrote no report:\n{done.stdout[-3000:]}")
    report = json.loads(file.read_text(encoding="utf-8"))
    return report["attention"] + ([] if report["accepting"] else [report["verdict"]])


def prepared(place: Member) -> Callable[[Scene], AbstractContextManager[None]]:
    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        # All of them, since another one may lead after the first got its disk.
        for host in scene.fleet.group("etcd"):
            power.give_disk(host.name)
        wait_until_whole(scene)
        with place.chosen(scene):
            shell(place(scene.fleet), PREPARE)
            yield

    return stage


def row(name: str, place: Member) -> Fault:
    return Fault(
        f"power of the {name} host cut", "host", amid_work(cut_power(place)), restore_power(place), hold_s=CUT_S,
        ends_within_s=CUT_S + WHOLE_S, accepts=True, stage=prepared(place), readings=(init(place),),
        accept_gap_s=20, work_gap_s=35,
    )  # fmt: skip


POWER = (row("leading broker's", LEADER), row("primary's", PRIMARY))
