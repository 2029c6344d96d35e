"""Secrets that change while in use, rotations that are cut off, and expired certificates."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.demo import trust
from lab.drill import hosts
from lab.drill.faults.fault import Fault, Reading, amid_work, now, playbook
from lab.drill.faults.operations import bring_back
from lab.drill.faults.runs import cut_off
from lab.drill.hosts import shell
from lab.drill.scene import Scene

PKI = "/etc/grunnfjell/pki"
AUTHORITIES = f"{PKI}/authorities.pem"
ROTATE = "playbooks/rotate.yml"

# The task that switches the first worker.
MIDST = "Let running tasks end, then start the changed programs"
# One task of each step of a rotation, in the order of the run, and the occurrence in which to cut.
CUTS = (
    ("Take the next step in the vault", 1),
    ("Keep the host's keys and valid certificates", 1),
    ("Declare the logins", 1),
    ("Declare databases and roles, and drop undeclared roles", 1),
    ("Configure PgBouncer and keep it running", 1),
    ("Write the application's settings", 1),
    (MIDST, 1),
    ("Try all new web servers, then hand over to them, one at a time", 1),
    ("Check that the old logins are unused, or refused", 1),
    ("Take the next step in the vault", 3),
    ("Take the next step in the vault", 4),
)


def fingerprint(what: str, file: str) -> Reading:
    """Of a file that a worker reads: shows that it changed without showing its content."""
    return Reading(what, hosts.worker, f"sha256sum {file} | cut -c 1-12")


CERTIFICATE = fingerprint("certificate", f"{PKI}/application/certificate.pem")
BROKER_LOGIN = fingerprint("broker login", "/etc/ledger/grunnfjell_settings.py")
DATABASE_LOGIN = fingerprint("database login", "/etc/ledger/pg_service.conf")
EVERYTHING = (BROKER_LOGIN, DATABASE_LOGIN, CERTIFICATE, fingerprint("authorities", AUTHORITIES))


@contextmanager
def clients_trust(scene: Scene) -> Iterator[None]:
    """The producers' clients trust what the fleet trusts: a new authority before it issues certificates."""
    done = threading.Event()

    def follow() -> None:
        while not done.wait(1):
            trust.believe(shell(hosts.producer(scene.fleet), f"cat {AUTHORITIES}"))

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def rotate(scene: Scene) -> float:
    """Every secret of the fleet, in one run of the operator's playbook."""
    with clients_trust(scene):
        return playbook(scene, ROTATE)


def cut_rotation_off(scene: Scene) -> float:
    """While one worker uses the new login and the others the old one."""
    began = time.time()
    cut_off(scene, ROTATE, "-e", "rotate=rabbitmq_user_passwords", task=MIDST)
    return began


def cut_every_step_off(scene: Scene) -> float:
    """Each run continues where the one before was cut off, and is cut off one step later."""
    began = time.time()
    with clients_trust(scene):
        for task, occurrence in CUTS:
            cut_off(scene, ROTATE, task=task, occurrence=occurrence)
    return began


def finish_rotation(scene: Scene) -> float:
    with clients_trust(scene):
        playbook(scene, ROTATE)
    return time.time()


def expire_certificates(scene: Scene) -> float:
    """Every host gets certificates that expired when they were issued; open connections go on."""
    return playbook(scene, "lab/drill/expired.yml")


SECRETS = (
    Fault(
        "every secret rotated", "process", amid_work(rotate), now, ends_within_s=900, seamless=True, accepts=True,
        readings=EVERYTHING,
    ),
    Fault(
        "rotation cut off and taken up", "process", amid_work(cut_rotation_off), finish_rotation, ends_within_s=900,
        seamless=True, accepts=True, readings=(BROKER_LOGIN,),
    ),
    Fault(
        "rotation cut off in each of its steps", "process", amid_work(cut_every_step_off), finish_rotation,
        ends_within_s=3600, seamless=True, accepts=True, readings=EVERYTHING,
    ),
    Fault(
        "certificates expired", "process", expire_certificates, bring_back, hold_s=10, ends_within_s=900, accepts=True,
        shows=("repeated",), readings=(CERTIFICATE,),
    ),
)  # fmt: skip
