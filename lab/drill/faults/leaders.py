"""The leading broker and the primary die at once, in the midst of an operator's run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.drill import hosts
from lab.drill.faults.fault import Fault, Moment, amid_work, now, playbook
from lab.drill.faults.members import LEADER, POSTMASTER, PRIMARY, leader, make_older, postmaster
from lab.drill.faults.operations import release, roll_back
from lab.drill.faults.processes import BROKER, main_pid, process_of
from lab.drill.faults.runs import struck
from lab.drill.faults.secrets import MIDST, ROTATE, clients_trust
from lab.drill.hosts import shell
from lab.drill.scene import Scene
from lab.machine import Refusal


def leaders_die(scene: Scene, task: str, playbook_name: str, *arguments: str) -> float:
    """The leading broker and the primary are killed in this task. The run ends well, or with a sentence and the next one does."""
    began = time.time()

    def kill(_: int) -> None:
        # Those of this moment: an update stops the broker of one host after another.
        shell(leader(scene.fleet), f"kill -9 $({main_pid(BROKER)})")
        shell(hosts.database(scene.fleet), f"kill -9 $({POSTMASTER})")

    status, output = struck(scene, playbook_name, *arguments, task=task, occurrence=1, strike=kill)
    if status:
        if "Traceback" in output or "fatal: " not in output:
            raise Refusal(f"{playbook_name} ended without a sentence:\n{output[-3000:]}")
        playbook(scene, playbook_name, *arguments)
    return began


def leaders_die_in_deploy(scene: Scene) -> float:
    return leaders_die(scene, MIDST, *release())


def leaders_die_in_rotation(scene: Scene) -> float:
    with clients_trust(scene):
        return leaders_die(scene, "Declare databases and roles, and drop undeclared roles", ROTATE)


def leaders_die_in_update(scene: Scene) -> float:
    make_older(scene)
    return leaders_die(scene, "Install the updates", "playbooks/update.yml")


def leaders_die_in_site(scene: Scene) -> float:
    return leaders_die(scene, "Declare users, virtual hosts and policies", "site.yml")


@contextmanager
def both_chosen(scene: Scene) -> Iterator[None]:
    with LEADER.chosen(scene), PRIMARY.chosen(scene):
        yield


def row(during: str, hurt: Moment, heal: Moment = now) -> Fault:
    return Fault(
        f"leaders killed during {during}", "host", amid_work(hurt), heal, ends_within_s=1500, accepts=True, work_gap_s=60,
        stage=both_chosen, readings=(process_of(LEADER, BROKER), postmaster(PRIMARY)),
    )  # fmt: skip


LEADERS = (
    row("site.yml", leaders_die_in_site),
    row("a deploy", leaders_die_in_deploy, roll_back),
    row("a rotation of every secret", leaders_die_in_rotation),
    row("an update", leaders_die_in_update),
)
