"""The hosts of the database and of its backups get the next Debian, and the data moves to that release's PostgreSQL."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lab import playbooks
from lab.deadlines import poll, until
from lab.demo.fleet import Host
from lab.drill import hosts, proof
from lab.drill.faults.fault import Fault, Reading, amid_work
from lab.drill.hosts import container, shell
from lab.drill.scene import Scene
from lab.machine import BUILD, Refusal, podman

# A release upgrade as Debian's release notes describe it, without its questions.
UPGRADE = """
export DEBIAN_FRONTEND=noninteractive
sed -i 's/bookworm/trixie/g' /etc/apt/sources.list
keep='-y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold'
apt-get -q update
apt-get -q $keep upgrade --without-new-pkgs
apt-get -q $keep full-upgrade
"""
PLAYBOOK_S = 3600
BOOT_S = 120
FEW, CAUGHT_UP_S = 50, 600
FIGURES = re.compile(
    r"restored in (?P<restore_s>[\d.]+) s, became PostgreSQL \d+ in (?P<rehearsed_s>[\d.]+) s.*?"
    r"reindexed: (?P<reindexed>\d+) seconds: (?P<moved_s>[\d.]+)"
)


class Record:
    """The seconds of each step, in build/moved_database.json."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}

    def step(self, name: str, work: Callable[..., Any], *arguments: object) -> Any:
        began = time.monotonic()
        result = work(*arguments)
        self.note(**{name: round(time.monotonic() - began, 1)})
        return result

    def note(self, **figures: float) -> None:
        self.figures |= figures
        print("".join(f"  {name}: {seconds} s\n" for name, seconds in figures.items()), end="", flush=True)
        (BUILD / "moved_database.json").write_text(json.dumps(self.figures, indent=2) + "\n", encoding="utf-8")


RECORD = Record()


@contextmanager
def begin(scene: Scene) -> Iterator[None]:
    for host in aged(scene):
        if not (version := shell(host, "cat /etc/debian_version").strip()).startswith("12."):
            raise Refusal(f"{host.name} has Debian {version}: remove it with lab/remove.yml, and begin again.")
    yield


def aged(scene: Scene) -> list[Host]:
    """In the order of their upgrade."""
    return [*scene.fleet.group("backups"), hosts.database(scene.fleet)]


def reboot(host: Host) -> None:
    names = shell(host, "cat /etc/hosts")
    podman("restart", "--time", "60", container(host))

    def answers() -> bool:
        try:
            # podman has written another one.
            shell(host, "cat >/etc/hosts", stdin=names)
        except Refusal:
            return False
        return True

    until(f"{host.name} after its reboot", answers, BOOT_S)


def upgrade(scene: Scene) -> float:
    """Returns when the first host began."""
    began = time.time()
    for host in aged(scene):
        RECORD.step(f"{host.name} upgraded", shell, host, UPGRADE)
        RECORD.step(f"{host.name} rebooted", reboot, host)
    return began


def move(scene: Scene) -> float:
    """The command of docs/next-debian.md, and then the fleet as the inventory describes it."""
    database = hosts.database(scene.fleet).name
    arguments = ("-e", f"move_database={database}", "-e", f"move_over={database}")
    output = RECORD.step("move_database.yml", play, scene, "playbooks/move_database.yml", *arguments)
    RECORD.note(**figures(output))
    RECORD.step("site.yml", play, scene, "site.yml")
    # What was accepted while the workers waited is done before the row ends.
    poll(lambda: proof.queued_messages(scene.fleet).get(scene.book.application, 0) < FEW, CAUGHT_UP_S, 5)
    return time.time()


def play(scene: Scene, name: str, *arguments: str) -> str:
    """Its output without line breaks, which Ansible puts wherever the terminal's width ends."""
    done = playbooks.attempt(scene.inventory, name, *arguments, timeout_s=PLAYBOOK_S)
    output = " ".join(done.stdout.split())
    if done.returncode:
        raise Refusal(f"{name} failed: {output[-3000:]}")
    return output


def figures(output: str) -> dict[str, float]:
    """The seconds that the playbook reports."""
    match = FIGURES.search(output)
    if not match:
        raise Refusal(f"move_database.yml reported no seconds: {output[-2000:]}")
    return {name: float(value) for name, value in match.groupdict().items()}


VERSION = "cd / && runuser -u postgres -- psql -XAtc 'SHOW server_version'"
RELEASE = "cat /etc/debian_version"

# Needs a group `backups`, and Debian 12 on it and on the database: inventories/drill-upgrade.
MOVED_DATABASE = (
    Fault(
        "database moved to the next Debian", "host", amid_work(upgrade), move, ends_within_s=5400, accept_gap_s=30, stage=begin,
        readings=(Reading("PostgreSQL", hosts.database, VERSION), Reading("Debian", hosts.database, RELEASE)),
    ),
)  # fmt: skip
