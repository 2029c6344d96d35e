"""`python -m lab.apps`: deploy the applications of inventories/apps, hurt their fleet at work, and write build/apps.json."""

from __future__ import annotations

import argparse
import json
import sys
import time

from lab import playbooks
from lab.apps.application import DONE_S, Application
from lab.apps.dead import queues, raise_in_every_queue
from lab.apps.faults import FAULTS, Place
from lab.apps.load import Load
from lab.apps.mayan import Mayan
from lab.apps.pretix import Pretix
from lab.deadlines import poll
from lab.demo import fleet
from lab.machine import BUILD, REPOSITORY, Refusal, refusals_shown, write_whole

INVENTORY = "inventories/apps"
APPLICATIONS = (Pretix, Mayan)
MODULES = {"pretix": "pretix.celery_app", "mayan": "mayan.celery"}
EVERY_S = {"pretix": 0.5, "mayan": 4.0}
# How long the load goes on before the fault and after it.
AROUND_S = 5


def lines(name: str) -> int:
    """Lines of Python that a team writes for the application."""
    files = (REPOSITORY / "examples" / name).glob("*.py")
    return sum(1 for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip())


def row(application: Application, place: Place, fault: str) -> dict:
    """What was accepted while the fault lasted, and what of it was never done."""
    print(f"\n=== {application.name}: {fault}", flush=True)
    before = application.done()
    with Load(application, EVERY_S[application.name]) as load:
        time.sleep(AROUND_S)  # the load itself lasts so long
        began = time.monotonic()
        FAULTS[fault](place)
        took_s = time.monotonic() - began
        time.sleep(AROUND_S)  # the load itself lasts so long
    accepted = set(load.accepted)
    # Work whose task has failed is among the dead letters, with its reason, and a person sends it back.
    if dead := not poll(lambda: accepted <= application.done(), DONE_S, every_s=2):
        playbooks.play(
            place.inventory, "playbooks/dead_letters.yml", "-e", "dead_letters_action=replay", "-e", "dead_letters_all=true",
            "-e", json.dumps({"dead_letters_vhosts": [application.name], "dead_letters_limit": 1000}),
        )  # fmt: skip
        poll(lambda: accepted <= application.done(), DONE_S, every_s=2)
    lost = sorted(accepted - application.done())
    result = {"fault": fault, "accepted": len(accepted), "refused": load.refused, "lost": len(lost), "replayed": dead}
    result["seconds"] = round(took_s, 1)
    print(f"    {result}" + (f" lost: {', '.join(lost)}" if lost else ""), flush=True)
    assert not before & accepted, "a key was accepted twice"
    if not accepted:
        raise Refusal(f"{application.name} accepted nothing during '{fault}', so it proves nothing")
    return result


def judge(application: Application, place: Place, faults: list[str]) -> dict:
    application.prepare()
    web = next(host for host in place.fleet.group("producers") if host.application == application.name)
    held = queues(place.fleet.group("rabbitmq")[0], application.name)
    rows = [row(application, place, fault) for fault in faults]
    proofs = application.prove()
    proofs.append(raise_in_every_queue(place.inventory, web, application.name, MODULES[application.name], sorted(held)))
    for proof in proofs:
        print(f"  ✓ {application.name}: {proof}", flush=True)
    return {
        "lines": lines(application.name),
        "queues": len(held),
        "classic": sum(kind == "classic" for kind in held.values()),
        "accepted": sum(row["accepted"] for row in rows),
        "lost": sum(row["lost"] for row in rows),
        "rows": rows,
        "proofs": proofs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.apps", description=__doc__)
    parser.add_argument("--no-converge", action="store_true", help="the fleet is provisioned already")
    parser.add_argument("--only", action="append", help="this application (can be repeated)")
    parser.add_argument("--fault", action="append", choices=[*FAULTS], help="this fault (can be repeated)")
    arguments = parser.parse_args()
    with refusals_shown():
        figures: dict = {}
        if not arguments.no_converge:
            playbooks.play(INVENTORY, "lab/apps/outside.yml")
            figures = {"runs": 1, "minutes": round(playbooks.converge(INVENTORY) / 60, 1)}
        hosts = fleet.read(INVENTORY)
        for kind in APPLICATIONS:
            application = kind(hosts)
            if application.name in (arguments.only or [application.name]):
                place = Place(INVENTORY, hosts, application.name)
                figures[application.name] = judge(application, place, arguments.fault or [*FAULTS])
                write_whole(BUILD / "apps.json", json.dumps(figures, indent=2) + "\n")
    lost = sum(figures[kind(hosts).name]["lost"] for kind in APPLICATIONS if kind(hosts).name in figures)
    print(f"\nbuild/apps.json: {lost} of the accepted work lost")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
