"""A broker on Debian 12 gives its place to a new host with Debian 13, while the fleet works."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab import playbooks
from lab.deadlines import until
from lab.demo.fleet import Host
from lab.drill import hosts, proof
from lab.drill.faults.fault import Fault, Reading, amid_work, now
from lab.drill.faults.growth import load, save
from lab.drill.hosts import shell
from lab.drill.ledger import Accepted, Job
from lab.drill.scene import Scene
from lab.machine import BUILD, REPOSITORY, Refusal

# As deep as inventories/drill-move, whose variables name files beside it.
BEFORE = BUILD / "before"
PUBLISH = (REPOSITORY / "lab/guest/publish_delayed.py").read_text(encoding="utf-8")
# The new broker's packages are installed meanwhile, on processors that all hosts share.
PLAYBOOK_S = 2400
POISON = 2
POISONED_S = 120
# Jobs with each countdown, again and again: whenever the broker is moved, it holds some in several steps of their delay.
COUNTDOWNS = (20.0, 45.0, 90.0)
TOGETHER, EVERY_S = 5, 5.0
BROKERS_OF_PRODUCER = "ss -HtnO state established '( dport = :5671 )' | awk '{print $4}' | sort -u"
ENDED = "This broker is empty, and nobody is connected to it."


def before(inventory: str) -> str:
    """The inventory as it was before its operator edited it: the old broker alone, in its place."""
    shutil.rmtree(BEFORE, ignore_errors=True)
    shutil.copytree(REPOSITORY / inventory, BEFORE)
    fleet = load(BEFORE / "hosts.yml")
    brokers = fleet["all"]["children"]["rabbitmq"]["hosts"]
    fleet["all"]["children"]["rabbitmq"]["hosts"] = {
        name: {key: value for key, value in line.items() if key != "rabbitmq_successor"}
        for name, line in brokers.items()
        if "rabbitmq_successor" in line
    }
    save(BEFORE / "hosts.yml", fleet)
    return str(BEFORE)


def former(scene: Scene) -> Host:
    return next(host for host in scene.fleet.group("rabbitmq") if host.replaced)


@contextmanager
def dead_letters_and_delayed_jobs(scene: Scene) -> Iterator[None]:
    """The old broker holds dead letters before the load begins, and gets delayed jobs beside it."""
    scene.post([Job(next(scene.numbers), 0, poison=True) for _ in range(POISON)])
    until("the dead letters", lambda: messages(former(scene), scene).get("dead_letters") == POISON, POISONED_S)
    stop = threading.Event()

    def delayed() -> None:
        for countdown in itertools.cycle(COUNTDOWNS):
            if stop.wait(EVERY_S):
                return
            try:
                publish_delayed(scene, countdown)
            except Refusal:  # not confirmed, so not accepted
                scene.ledger.refusals.append(time.time())

    thread = threading.Thread(target=delayed, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def publish_delayed(scene: Scene, countdown: float) -> None:
    producer = hosts.producer(scene.fleet)
    jobs = [Job(next(scene.numbers), 0.1) for _ in range(TOGETHER)]
    entries = json.dumps([[job.key, job.number, job.seconds] for job in jobs])
    run = f"/opt/{producer.application}/current/run"
    producer.run(["runuser", "-u", "www-data", "--", run, "python", "-", str(countdown), entries], stdin=PUBLISH)
    scene.ledger.accepted += [Accepted(job, time.time(), producer.name) for job in jobs]


def messages(broker: Host, scene: Scene) -> dict[str, int]:
    queues = shell(
        broker, f"timeout -k 1 60 rabbitmqctl -q --formatter=json list_queues -p {scene.book.application} name messages"
    )
    return {queue["name"]: queue["messages"] for queue in json.loads(queues)}


def move(scene: Scene) -> float:
    """The operator's run, once the inventory has the new lines."""
    began = time.time()
    done = playbooks.attempt(scene.inventory, "site.yml", timeout_s=PLAYBOOK_S)
    if done.returncode or ENDED not in " ".join(done.stdout.split()):
        raise Refusal("site.yml did not move the broker:\n" + "\n".join(done.stdout.splitlines()[-40:]))
    return began


def emptied(scene: Scene) -> float:
    """Nothing is left in the old broker, and the dead letters are in the new one."""
    ended = now(scene)
    if left := {name: number for name, number in messages(former(scene), scene).items() if number}:
        raise Refusal(f"{former(scene).name} still holds {left}")
    if (dead := proof.dead_letters(scene.fleet)) != POISON:
        raise Refusal(f"the new broker has {dead} of {POISON} dead letters")
    return ended


# Needs a broker with a successor: inventories/drill-move, on blank hosts.
MOVE = (
    Fault(
        "broker moved to the next Debian", "host", amid_work(move), emptied, ends_within_s=1500, accepts=True,
        accept_gap_s=10, work_gap_s=60, stage=dead_letters_and_delayed_jobs, shows=("dead",),
        readings=(Reading("broker of the producer", hosts.producer, BROKERS_OF_PRODUCER),),
    ),
)  # fmt: skip
