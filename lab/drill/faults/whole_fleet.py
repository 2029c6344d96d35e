"""Every host but the repository host is gone for ever. The commands of docs/backups.md bring the platform back."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lab import playbooks
from lab.containers import remove_containers
from lab.deadlines import poll
from lab.demo.fleet import Host
from lab.drill import hosts, load, proof
from lab.drill.faults.fault import Fault, Reading, amid_work
from lab.drill.hosts import shell
from lab.drill.ledger import Accepted, Job
from lab.drill.proof import Trace
from lab.drill.scene import Scene
from lab.machine import BUILD, Refusal

FILES = "/var/lib/ledger"
DATABASE_REFUSED = "is not the database whose backups are in the stanza"
FILES_REFUSED = "holds files of the machine that this one replaces"
# Queued when the hosts are lost: each takes as long as ten others.
WAITING, WAITING_S = 60, 5.0
# Load after the files were backed up: what is accepted then is in no backup of files.
AFTER_BACKUP_S = 30.0
# What the loss may cost. Clients repeat what they sent in this time, since it may exist nowhere any more.
RPO_S = 30.0
# All hosts are built at once, on the processors of one machine.
PLAYBOOK_S = 2400
# For the republished jobs to be done.
REPUBLISHED_S = 300
# A transaction may commit after one that began later.
COMMIT_S = 2.0
# Random, or a hash with random salt.
NEVER_EQUAL = ("password_hash", "internal_cluster_id")

LAST = """SELECT coalesce(extract(epoch FROM max(at)), 0) FROM (
    SELECT finished_at FROM done UNION ALL SELECT delivered_at FROM deliveries UNION ALL SELECT accepted_at FROM accepted
) AS rows (at);"""
COUNT = "SELECT (SELECT count(*) FROM done) + (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM accepted);"


@dataclass
class Loss:
    """What was there at the moment of the loss, and the record of what came back."""

    definitions: Any = None
    traces: dict[str, Trace] = field(default_factory=dict)
    backups: set[str] = field(default_factory=set)
    at: float = 0.0
    # Removing them takes a moment, in which jobs are accepted that nobody keeps.
    gone: float = 0.0
    record: dict = field(default_factory=dict)

    @contextmanager
    def begin(self, scene: Scene) -> Iterator[None]:
        self.definitions = definitions(scene)
        for producer in scene.fleet.group("producers"):
            # Of earlier drills, whose jobs the ledger does not hold any more.
            shell(producer, f"rm -rf {FILES}/accepted")
        yield

    def step(self, name: str, work: Callable[[], object]) -> None:
        began = time.monotonic()
        work()
        self.record.setdefault("steps_s", {})[name] = round(time.monotonic() - began, 1)
        print(f"  {name}: {self.record['steps_s'][name]} s", flush=True)


LOSS = Loss()


def lost_hosts(scene: Scene) -> list[Host]:
    return [host for host in scene.fleet.hosts if "backups" not in host.groups]


def definitions(scene: Scene) -> Any:
    """The broker's, without what is random or expires by itself, sorted."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items() if key not in NEVER_EQUAL}
        if isinstance(value, list):
            kept = [plain(inner) for inner in value if not isinstance(inner, dict) or inner.get("name") not in NEVER_EQUAL]
            return sorted(kept, key=lambda inner: json.dumps(inner, sort_keys=True))
        return value

    return plain(lasting(json.loads(shell(hosts.broker(scene.fleet), "timeout -k 1 60 rabbitmqctl -q export_definitions -"))))


def lasting(exported: dict[str, Any]) -> dict[str, Any]:
    """Without the queues in which a program awaited one answer, and their bindings."""
    expire = {(queue["vhost"], queue["name"]) for queue in exported["queues"] if "x-expires" in queue["arguments"]}
    return exported | {
        "queues": [queue for queue in exported["queues"] if (queue["vhost"], queue["name"]) not in expire],
        "bindings": [binding for binding in exported["bindings"] if (binding["vhost"], binding["destination"]) not in expire],
    }


def burn(scene: Scene) -> float:
    """With a backlog, part of which was accepted before the last backup of files and part after it."""
    scene.post([Job(next(scene.numbers), WAITING_S) for _ in range(WAITING)])
    for producer in scene.fleet.group("producers"):
        shell(producer, "systemctl start grunnfjell-restic-backup")  # as its timer does
    # Not a wait for a condition: it is the length of the load whose jobs are in no backup of files.
    time.sleep(AFTER_BACKUP_S)
    LOSS.backups = {backup["label"] for backup in backups(scene)}
    LOSS.traces, LOSS.at = scene.book.traces(), time.time()
    remove_containers([hosts.container(host) for host in lost_hosts(scene)])
    LOSS.gone = time.time()
    return LOSS.at


def attempt(scene: Scene, name: str, *arguments: str) -> tuple[bool, str]:
    """Whether it succeeded, and its output without line breaks, which Ansible puts wherever the terminal's width ends."""
    done = playbooks.attempt(scene.inventory, name, *arguments, timeout_s=PLAYBOOK_S)
    return not done.returncode, " ".join(done.stdout.split())


def succeeds(scene: Scene, name: str, *arguments: str) -> str:
    succeeded, output = attempt(scene, name, *arguments)
    if not succeeded:
        raise Refusal(f"{name} failed: {output[-3000:]}")
    return output


def refused(scene: Scene, sentence: str) -> None:
    succeeded, output = attempt(scene, "site.yml")
    if succeeded or sentence not in output:
        raise Refusal(f"site.yml was to end with '{sentence}', but: {output[-3000:]}")


def bring_back(scene: Scene) -> float:
    """The commands of docs/backups.md, and nothing else."""
    database, record = hosts.database(scene.fleet).name, LOSS.record
    LOSS.step("blank machines", lambda: playbooks.play(scene.inventory, "lab/create.yml"))
    LOSS.step("site.yml up to the database", lambda: refused(scene, DATABASE_REFUSED))
    over = ("-e", "restore_to=latest", "-e", f"restore_database={database}", "-e", f"restore_over={database}")
    LOSS.step("restore.yml", lambda: succeeds(scene, "playbooks/restore.yml", *over))
    prove_rows(scene)
    LOSS.step("site.yml up to the files", lambda: refused(scene, FILES_REFUSED))
    LOSS.step("restore_files.yml", lambda: restore_files(scene))
    LOSS.step("site.yml", lambda: succeeds(scene, "site.yml"))
    LOSS.step("reconcile.yml", lambda: succeeds(scene, "playbooks/reconcile.yml", "-e", "reconcile_republish=true"))
    record["rto_s"] = round(time.time() - LOSS.at, 1)
    settle(scene)
    report = BUILD / "restore.json"
    held = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    report.write_text(json.dumps(held | {"whole_fleet": record}, indent=2) + "\n", encoding="utf-8")
    if record["problems"]:
        raise Refusal("; ".join(record["problems"]))
    # Only now: a job that is accepted earlier waits behind those that were republished.
    return time.time()


def backups(scene: Scene) -> list[dict]:
    (repository,) = scene.fleet.group("backups")
    return json.loads(shell(repository, "runuser -u postgres -- pgbackrest --stanza=main --output=json info"))[0]["backup"]


def prove_rows(scene: Scene) -> None:
    """Everything up to the last restored commit is there, and every backup from before."""
    last, restored = float(scene.book.sql(LAST)), scene.book.traces()
    missing = [
        key
        for key, trace in LOSS.traces.items()
        if trace.finished and trace.finished < last - COMMIT_S and restored.get(key, Trace()).finished is None
    ]
    held = backups(scene)
    gone = sorted(LOSS.backups - {backup["label"] for backup in held})
    LOSS.record |= {
        "rpo_s": round(LOSS.at - last, 1),
        "bytes": held[-1]["info"]["size"],
        "proved_rows": int(scene.book.sql(COUNT)),
        "backups": [backup["label"] for backup in held],
        "problems": [
            *([f"{len(missing)} rows from before the last restored commit are missing"] if missing else []),
            *([f"the repository has lost the backups {', '.join(gone)}"] if gone else []),
        ],
    }


def restore_files(scene: Scene) -> None:
    opened = 0
    for producer in scene.fleet.group("producers"):
        arguments = {"restore_host": producer.name, "restore_path": FILES, "restore_over": FILES}
        output = succeeds(scene, "playbooks/restore_files.yml", "-e", json.dumps(arguments))
        restored = re.search(r"(\d+) files, \d+ bytes of", output)
        opened += int(restored[1]) if restored else 0
    LOSS.record["files_opened"] = opened


def settle(scene: Scene) -> None:
    """What reconcile found, and what clients repeat: the jobs of the last seconds exist nowhere any more."""
    before = [entry for entry in scene.ledger.accepted if entry.at <= LOSS.gone]

    def left() -> list[Accepted]:
        traces = scene.book.traces()
        return [entry for entry in before if traces.get(entry.job.key, Trace()).finished is None]

    def lost() -> list[Accepted]:
        return [entry for entry in left() if entry.at <= LOSS.at - RPO_S]

    poll(lambda: not lost(), REPUBLISHED_S, 5)
    poll(lambda: proof.queued_messages(scene.fleet).get(scene.book.application, 0) < WAITING / 4, REPUBLISHED_S, 5)
    late = [entry for entry in left() if entry.at > LOSS.at - RPO_S]
    producer = scene.fleet.group("producers")[0]
    with ThreadPoolExecutor(load.CLIENTS) as pool:
        answers = list(pool.map(lambda entry: load.post(producer, entry.job), late))
    after = definitions(scene)
    LOSS.record |= {
        "accepted_before": len(before),
        "lost_after_reconcile": len(lost()),
        "accepted_in_the_last_seconds_and_lost": len(late),
        "repeated_by_clients": answers.count(202),
        "definitions_equal": after == LOSS.definitions,
    }
    if LOSS.record["lost_after_reconcile"]:
        LOSS.record["problems"].append(f"{LOSS.record['lost_after_reconcile']} accepted jobs are lost after reconcile")
    if LOSS.record["rpo_s"] > RPO_S:
        LOSS.record["problems"].append(f"{LOSS.record['rpo_s']} s of commits are lost, and {RPO_S:g} s are promised")
    if after != LOSS.definitions:
        LOSS.record["problems"].append("the broker has other definitions than before")
        (BUILD / "lost_definitions.json").write_text(json.dumps([LOSS.definitions, after], indent=1), encoding="utf-8")


# Needs a group `backups`: inventories/drill-lost.
WHOLE_FLEET = (
    Fault(
        "whole fleet lost for ever and restored", "host", amid_work(burn), bring_back, ends_within_s=3600, accepts=True,
        stage=LOSS.begin, shows=("repeated",),
        readings=(Reading("start of init", hosts.database, "cut -d ' ' -f 22 /proc/1/stat"),),
    ),
)  # fmt: skip
