"""What `playbooks/dead_letters.yml` promises: a job that failed too often is seen with its reason, and has another try."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from following import RESUME_S, until
from playing import play

from lab.demo.fleet import Fleet, Host
from lab.machine import REPOSITORY

pytestmark = [pytest.mark.disruptive, pytest.mark.long]

FOLDER = "/var/tmp/grunnfjell-poison"

# A job that takes its process with it until somebody removes the cause; a job that fails by an exception; each with an effect
# that can be counted. The application's own configuration, broker and policies, in a queue of its own.
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


class Poison:
    """A worker of a queue of its own, with its own code, on a worker host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.run_script = f"/opt/{host.application}/current/run"
        self.host.run(["install", "-d", "-o", "www-data", FOLDER])
        self.host.run(["sh", "-c", f"cat > {FOLDER}/poison.py"], APP)
        self.channel = None

    def python(self, program: str, *arguments: str) -> str:
        command = ["runuser", "-u", "www-data", "--", "env", "-C", FOLDER, self.run_script, "python", "-c", program, *arguments]
        return self.host.run(command)

    def start(self) -> None:
        celery = (
            "celery --app=poison worker --hostname=poison@%h --concurrency=1 --queues=poison --without-gossip --without-mingle"
        )
        line = f"cd {FOLDER}; exec runuser -u www-data -- {self.run_script} {celery} --loglevel=INFO --logfile={FOLDER}/log"
        self.host.run(["systemd-run", "--quiet", "--unit=grunnfjell-poison", "sh", "-c", line])

    def stop(self) -> None:
        self.host.run(["sh", "-c", "systemctl stop grunnfjell-poison || true; systemctl reset-failed grunnfjell-poison || true"])

    def cure(self) -> None:
        self.host.run(["touch", f"{FOLDER}/cured"])

    def done(self) -> set[str]:
        return {name.removeprefix("done-") for name in self.host.run(["ls", FOLDER]).split() if name.startswith("done-")}

    def attempts(self, key: str) -> int:
        return self.host.run(["sh", "-c", f"cat {FOLDER}/attempts || true"]).split().count(key)


@pytest.fixture
def poison(site: Fleet, letters: Letters) -> Iterator[Poison]:
    assert letters()["totals"] == {site.group("producers")[0].application: 0}, "the fleet has dead letters of its own"
    worker = Poison(site.group("celery_workers")[0])
    worker.start()
    yield worker
    worker.stop()
    (broker,) = site.group("rabbitmq")
    vhost = worker.host.application
    broker.run(["sh", "-c", f"rabbitmqctl -q delete_queue -p {vhost} poison; rabbitmqctl -q purge_queue -p {vhost} dead_letters"])
    worker.host.run(["rm", "-r", FOLDER])


Letters = Callable[..., dict]


@pytest.fixture
def letters(request) -> Letters:
    """Runs the playbook; what it told, and what it printed."""

    def run(action: str = "list", **more: object) -> dict:
        extra = {f"dead_letters_{key}": value for key, value in {"action": action, **more}.items()}
        done = play(request.config.option.ansible_inventory, "playbooks/dead_letters.yml", variables=extra)
        report = json.loads((REPOSITORY / "build/dead_letters.json").read_text(encoding="utf-8"))
        return report | {"rc": done.returncode, "said": done.printed}

    return run


def ids(report: dict) -> list[str]:
    return [letter["id"] for letter in report["letters"]]


def dead(letters: Letters, number: int) -> dict:
    return until(f"{number} dead letters", lambda: len((told := letters())["letters"]) == number and told, RESUME_S)


def test_a_job_that_kills_its_process_each_time_is_listed_replayed_and_done(poison, letters):
    poison.python(SEND, "poison.kill", "deadly")
    report = dead(letters, 1)
    (letter,) = report["letters"]
    assert (letter["task"], letter["reason"], letter["queue"], letter["count"]) == ("poison.kill", "delivery_limit", "poison", 1)
    assert "delivery_limit (no worker survived it) in poison" in report["said"]
    assert SECRET not in report["said"]
    assert SECRET in letters(show_arguments=True)["said"]
    tried = poison.attempts("deadly")
    assert tried > 1

    # Without a cure it dies again, after as many new attempts, and is not lost.
    assert [one["id"] for one in letters("replay", ids=["deadly"])["replayed"]] == ["deadly"]
    until("the second death", lambda: poison.attempts("deadly") == 2 * tried, RESUME_S)
    assert ids(dead(letters, 1)) == ["deadly"]

    poison.cure()
    assert letters("replay", ids=["deadly"])["rc"] == 0
    until("the effect", lambda: poison.done() == {"deadly"}, RESUME_S)
    assert ids(letters()) == []


def test_a_look_touches_no_letter_and_a_replay_only_the_chosen(poison, letters, site):
    poison.python(SEND, "poison.fail", "a", "b", "c", "d")
    report = dead(letters, 4)
    assert {letter["reason"] for letter in report["letters"]} == {"rejected"}
    order = ids(report)
    (broker,) = site.group("rabbitmq")
    peek = ["rabbitmq-queues", "-q", "peek", "-p", poison.host.application, "dead_letters", "1"]
    before = broker.run(peek)
    for _ in range(2):
        assert ids(letters()) == order
    assert broker.run(peek) == before, "a look was counted as a delivery"

    assert "dead_letters_ids" in letters("replay")["said"], "a replay of nobody knows what is refused"
    assert ids(letters()) == order

    poison.cure()
    assert [one["id"] for one in letters("replay", ids=["c"])["replayed"]] == ["c"]
    until("the effect", lambda: poison.done() == {"c"}, RESUME_S)
    assert ids(letters()) == [name for name in order if name != "c"]
    assert len(letters("replay", all=True, limit=1)["replayed"]) == 1
    assert len(letters("replay", task="poison.fail")["replayed"]) == 2
    until("all effects", lambda: poison.done() == {"a", "b", "c", "d"}, RESUME_S)
    assert letters()["totals"] == {poison.host.application: 0}


def test_a_letter_whose_queue_is_gone_is_kept(poison, letters, site):
    poison.python(SEND, "poison.fail", "homeless")
    dead(letters, 1)
    poison.stop()
    (broker,) = site.group("rabbitmq")
    broker.run(["rabbitmqctl", "-q", "delete_queue", "-p", poison.host.application, "poison"])
    report = letters("replay", all=True)
    assert report["rc"] != 0 and report["replayed"] == []
    assert report["kept"][0]["why"] == "poison: no queue accepted it: NO_ROUTE"
    assert ids(letters()) == ["homeless"]


def test_nobody_is_left_who_may_read_dead_letters(poison, letters, site):
    poison.python(SEND, "poison.fail", "x")
    dead(letters, 1)
    (broker,) = site.group("rabbitmq")
    users = broker.run(["rabbitmqctl", "-q", "list_users"])
    poison.stop()
    assert letters("replay", all=True)["rc"] == 0
    assert broker.run(["rabbitmqctl", "-q", "list_users"]) == users
    assert "grunnfjell" not in users
