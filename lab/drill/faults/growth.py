"""A fleet with one broker and one database becomes one with three of each, while it works."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from lab.drill import hosts
from lab.drill.faults.fault import Fault, Reading, amid_work, now, playbook
from lab.drill.faults.members import STANDBYS, standbys_again
from lab.drill.scene import Scene
from lab.machine import BUILD, REPOSITORY

# As deep as inventories/drill-compact, whose variables name files beside it.
SINGLE = BUILD / "single"
# What only a fleet of members has: groups with their roles, and files of variables.
MEMBERS_ONLY = ("etcd", "patroni", "haproxy")
FILES = ("ledger/application_broker.yml", "pgbouncer/pgbouncer_primary.yml", "postgresql/postgresql_members.yml")


def single(inventory: str) -> str:
    """The inventory as it was before its operator added members: its first core host alone, without etcd, Patroni and HAProxy."""
    shutil.rmtree(SINGLE, ignore_errors=True)
    shutil.copytree(REPOSITORY / inventory, SINGLE)
    fleet = load(SINGLE / "hosts.yml")
    groups = fleet["all"]["children"]
    core = groups["core"]["hosts"]
    groups["core"]["hosts"] = {name: core[name] for name in list(core)[:1]}
    roles = load(SINGLE / "group_vars/all/topology.yml")
    for group in MEMBERS_ONLY:
        del groups[group], roles["topology_roles"][group]
        shutil.rmtree(SINGLE / "group_vars" / group, ignore_errors=True)
    for file in FILES:
        (SINGLE / "group_vars" / file).unlink()
    save(SINGLE / "hosts.yml", fleet)
    save(SINGLE / "group_vars/all/topology.yml", roles)
    return str(SINGLE)


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def save(path: Path, values: dict) -> None:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def grow(scene: Scene) -> float:
    """The operator's run, once the inventory has the new lines."""
    return playbook(scene, "site.yml")


def whole(scene: Scene) -> float:
    standbys_again(scene)
    return now(scene)


GROWTH = (
    Fault(
        "grown from one broker and one database to three", "host", amid_work(grow), whole, ends_within_s=1500, accepts=True,
        accept_gap_s=30, work_gap_s=30, readings=(Reading("standbys", hosts.database, STANDBYS),),
    ),
)  # fmt: skip
