"""What `playbooks/dead_letters.yml` promises: a job that failed too often is listed with its reason, and can be replayed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from deadline import until
from foreign_application import ForeignApplication
from jobs import RESUME_S
from playbook_runner import play

from lab.demo.fleet import Fleet
from lab.machine import REPOSITORY

pytestmark = [pytest.mark.disruptive, pytest.mark.long]

# A job that kills its process until it is cured, and a job that raises an exception. Each leaves a file when it is done.
APP = """
import os, signal
from pathlib import Path
from celery import Celery
app = Celery("poison")
app.config_from_envvar("CELERY_CONFIG_MODULE")
app.conf.task_default_queue = app.conf.task_default_exchange = app.conf.task_default_routing_key = "poison"
here = Path(__file__).parent
@app.task(name="poison.kill")
def kill(key, secret):
    with open(here / "attempts", "a") as file:
        file.write(key + "\\n")
    if not (here / "cured").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    (here / f"done-{key}").touch()
@app.task(name="poison.fail")
def fail(key, secret):
    if not (here / "cured").exists():
        raise LookupError(f"nothing of {secret}")
    (here / f"done-{key}").touch()
"""
SEND = """
import sys, poison
name, *keys = sys.argv[1:]
for key in keys:
    poison.app.send_task(name, args=(key, "Kari Nordmann"), task_id=key)
"""
SECRET = "Kari Nordmann"


class Poison(ForeignApplication):
    def cure(self) -> None:
        self.host.run(["touch", f"{self.folder}/cured"])

    def done(self) -> set[str]:
        return {name.removeprefix("done-") for name in self.host.run(["ls", self.folder]).split() if name.startswith("done-")}

    def attempts(self, key: str) -> int:
        return self.host.run(["sh", "-c", f"cat {self.folder}/attempts || true"]).split().count(key)


Letters = Callable[..., dict]


@pytest.fixture
def letters(inventory) -> Letters:
    """Runs the playbook; returns its report, with the exit code and the output."""

    def run(action: str = "list", **more: object) -> dict:
        variables = {f"dead_letters_{key}": value for key, value in {"action": action, **more}.items()}
        result = play(inventory, "playbooks/dead_letters.yml", variables=variables)
        report = json.loads((REPOSITORY / "build/dead_letters.json").read_text(encoding="utf-8"))
        return report | {"rc": result.returncode, "output": result.output}

    return run


@pytest.fixture
def poison(site: Fleet, letters: Letters) -> Iterator[Poison]:
    assert letters()["totals"] == {site.group("producers")[0].application: 0}, "the fleet has dead letters already"
    (broker,) = site.group("rabbitmq")
    options = "--without-gossip --without-mingle --loglevel=INFO"
    application = Poison(site.group("celery_workers")[0], "poison", APP, options)
    yield application
    application.remove(broker)


def ids(report: dict) -> list[str]:
    return [letter["id"] for letter in report["letters"]]


def dead(letters: Letters, number: int) -> dict:
    return until(f"{number} dead letters", lambda: len((report := letters())["letters"]) == number and report, RESUME_S)


def test_a_job_that_always_kills_its_process_is_listed_replayed_and_done(poison, letters):
    poison.python(SEND, "poison.kill", "deadly")
    report = dead(letters, 1)
    (letter,) = report["letters"]
    assert (letter["task"], letter["reason"], letter["queue"], letter["count"]) == ("poison.kill", "delivery_limit", "poison", 1)
    assert "delivery_limit (no worker survived it) in poison" in report["output"]
    assert SECRET not in report["output"]
    assert SECRET in letters(show_arguments=True)["output"]
    attempts = poison.attempts("deadly")
    assert attempts > 1

    # Without a cure it dies again, after as many new attempts, and is not lost.
    assert [letter["id"] for letter in letters("replay", ids=["deadly"])["replayed"]] == ["deadly"]
    until("the second death", lambda: poison.attempts("deadly") == 2 * attempts, RESUME_S)
    assert ids(dead(letters, 1)) == ["deadly"]

    poison.cure()
    assert letters("replay", ids=["deadly"])["rc"] == 0
    until("the effect", lambda: poison.done() == {"deadly"}, RESUME_S)
    assert ids(letters()) == []


def test_a_listing_changes_no_dead_letter_and_a_replay_only_the_chosen_ones(poison, letters, site):
    poison.python(SEND, "poison.fail", "a", "b", "c", "d")
    report = dead(letters, 4)
    assert {letter["reason"] for letter in report["letters"]} == {"rejected"}
    order = ids(report)
    (broker,) = site.group("rabbitmq")
    peek = ["rabbitmq-queues", "-q", "peek", "-p", poison.host.application, "dead_letters", "1"]
    before = broker.run(peek)
    for _ in range(2):
        assert ids(letters()) == order
    assert broker.run(peek) == before, "listing counted as a delivery"

    assert "dead_letters_ids" in letters("replay")["output"], "a replay without a choice is refused"
    assert ids(letters()) == order

    poison.cure()
    assert [letter["id"] for letter in letters("replay", ids=["c"])["replayed"]] == ["c"]
    until("the effect", lambda: poison.done() == {"c"}, RESUME_S)
    assert ids(letters()) == [name for name in order if name != "c"]
    assert len(letters("replay", all=True, limit=1)["replayed"]) == 1
    assert len(letters("replay", task="poison.fail")["replayed"]) == 2
    until("all effects", lambda: poison.done() == {"a", "b", "c", "d"}, RESUME_S)
    assert letters()["totals"] == {poison.host.application: 0}


def test_a_dead_letter_whose_queue_is_gone_is_kept(poison, letters, site):
    poison.python(SEND, "poison.fail", "homeless")
    dead(letters, 1)
    poison.stop()
    (broker,) = site.group("rabbitmq")
    broker.run(["rabbitmqctl", "-q", "delete_queue", "-p", poison.host.application, "poison"])
    report = letters("replay", all=True)
    assert report["rc"] != 0 and report["replayed"] == []
    assert report["kept"][0]["why"] == "poison: no queue accepted it: NO_ROUTE"
    assert ids(letters()) == ["homeless"]


def test_no_user_is_left_that_can_read_dead_letters(poison, letters, site):
    poison.python(SEND, "poison.fail", "x")
    dead(letters, 1)
    (broker,) = site.group("rabbitmq")
    users = broker.run(["rabbitmqctl", "-q", "list_users"])
    poison.stop()
    assert letters("replay", all=True)["rc"] == 0
    assert broker.run(["rabbitmqctl", "-q", "list_users"]) == users
    assert "grunnfjell" not in users
