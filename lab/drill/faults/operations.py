"""An operator's work on a busy fleet: a deploy and its rollback, a host that is drained and brought back."""

from __future__ import annotations

import json
import shutil
import time

from lab.drill import hosts
from lab.drill.faults.fault import Fault, Place, Reading, amid_work, playbook
from lab.drill.scene import Scene
from lab.machine import BUILD, REPOSITORY

RELEASE = BUILD / "drill" / "release"
OVERLAY = BUILD / "drill" / "drained.yml"


def current(place: Place) -> Reading:
    return Reading("current release", place, "basename $(readlink /opt/*/current)")


WORKERS = Reading("processes of the host's workers", hosts.worker, "pgrep -cf '[c]elery.*worker' || true")


def release() -> tuple[str, ...]:
    """The playbook and arguments that deploy the application with one more line: another release that works as well."""
    shutil.rmtree(RELEASE, ignore_errors=True)
    shutil.copytree(REPOSITORY / "examples" / "ledger", RELEASE, ignore=shutil.ignore_patterns("__pycache__"))
    with (RELEASE / "ledger" / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(f"\n# Deployed by the drill at {time.time():.0f}.\n")
    return "playbooks/deploy.yml", "--extra-vars", json.dumps({"application_source": {"directory": str(RELEASE)}})


def deploy(scene: Scene) -> float:
    return playbook(scene, *release())


def roll_back(scene: Scene) -> float:
    playbook(scene, "playbooks/deploy.yml", "--extra-vars", "release=previous")
    return time.time()


def drain(scene: Scene) -> float:
    """As an operator does it: the inventory says drained, and a run makes it so."""
    OVERLAY.parent.mkdir(parents=True, exist_ok=True)
    line = {hosts.worker(scene.fleet).name: {"celery_worker_state": "drained"}}
    OVERLAY.write_text(json.dumps({"all": {"hosts": line}}), encoding="utf-8")
    return playbook(scene, "site.yml", "-i", str(OVERLAY))


def bring_back(scene: Scene) -> float:
    playbook(scene, "site.yml")
    return time.time()


OPERATIONS = (
    Fault(
        "deploy during load", "process", amid_work(deploy), roll_back, ends_within_s=900, seamless=True, accepts=True,
        readings=(current(hosts.worker), current(hosts.producer)),
    ),
    Fault(
        "scale-in during load", "process", amid_work(drain), bring_back, ends_within_s=900, affects=hosts.worker,
        seamless=True, readings=(WORKERS,),
    ),
)  # fmt: skip
