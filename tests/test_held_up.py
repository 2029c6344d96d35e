"""A change that is held up or killed: a login in use, an application that never answers, a replay in its middle."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ansible_collections.grunnfjell.platform.plugins.module_utils import psql, rabbitmq_cli
from ansible_collections.grunnfjell.platform.plugins.module_utils.amqp_wire import Message, text
from ansible_collections.grunnfjell.platform.plugins.modules import celery_promises, rabbitmq_dead_letters, retired_logins
from module_calls import call
from test_vault_rotation import PLAY, ROOT, Inventory

SECRET = "the former secret"

# A login that is to be retired, and that somebody still uses.


def clients(*users: str) -> Callable:
    return lambda command, *where: [{"user": user, "database": "shop"} for user in users]


def ask_whether_unused() -> dict:
    logins = [{"name": "shop", "login": "shop_b", "secret": SECRET}]
    return call(retired_logins, service="pgbouncer", expect="unused", logins=logins, timeout=1)


def test_a_login_that_somebody_still_uses_stops_its_retirement_and_one_that_nobody_uses_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retired_logins, "LOOK_S", 0.05)
    monkeypatch.setattr(psql, "console", clients("shop", "shop_b"))
    result = ask_whether_unused()
    assert result["failed"] and "pgbouncer still serves clients that are logged in as shop_b" in result["msg"]
    assert "both logins are valid until then" in result["msg"] and SECRET not in json.dumps(result)
    monkeypatch.setattr(psql, "console", clients("shop"))
    assert ask_whether_unused() == ask_whether_unused() | {"changed": False, "asked": 1}


def test_a_session_that_ends_while_it_is_waited_for_lets_the_retirement_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retired_logins, "LOOK_S", 0.05)
    ends = time.monotonic() + 0.3
    monkeypatch.setattr(psql, "console", lambda *where: clients(*(["shop_b"] if time.monotonic() < ends else []))(*where))
    assert not ask_whether_unused().get("failed")


def test_a_check_that_fails_on_one_host_keeps_the_vault_s_phase_until_a_run_that_passes(tmp_path: Path) -> None:
    """The plays of playbooks/rotate.yml in their order, with a stand-in for what is asked of the service."""
    names = [play["import_playbook"] for play in yaml.safe_load((ROOT / "playbooks/rotate.yml").read_text(encoding="utf-8"))]
    assert names[-4:] == ["rotation_check_retired.yml", "rotation_step.yml", "rotation_check_retired.yml", "rotation_vault.yml"]
    inventory = Inventory(tmp_path)
    for step in ("begin", "hand_over"):
        assert inventory.take(step) == ""
    held, in_use = inventory.entry, tmp_path / "in_use"
    in_use.touch()
    checks = yaml.safe_load((ROOT / "playbooks/rotation_check_retired.yml").read_text(encoding="utf-8"))
    stand_in = {"ansible.builtin.command": f"test ! -e {in_use}", "when": "inventory_hostname == 'b'"}
    plays = [play | {"hosts": "all", "tasks": [stand_in]} for play in checks] + yaml.safe_load(PLAY)
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))
    assert inventory.take("retire") and inventory.entry == held and "former" in held
    in_use.unlink()
    assert inventory.take("retire") == "" and "retired" in inventory.entry


# An application that is asked for its settings and never answers, as with a frozen broker.


@pytest.fixture
def never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script of a release that waits for ever; runuser without another account."""
    programs = {"runuser": 'shift 3; exec "$@"', "run": f"echo $$ >> {tmp_path}/pids; exec sleep 600"}
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("whom", "sentence"),
    [
        ({"nodes": ["w@worker1"]}, "No answer of this release within 1 s (celery_worker_answer_timeout) from w@worker1."),
        ({"client": "shop.web:app"}, "shop.web:app cannot be loaded to check its Celery client"),
        ({"code": True}, "shop.celery cannot be loaded to check its settings and tasks. No program was changed."),
    ],
    ids=["workers", "web process", "code"],
)
def test_an_application_that_never_answers_is_ended_and_named(never: Path, whom: dict, sentence: str) -> None:
    began = time.monotonic()
    result = call(celery_promises, run=str(never), user="app", app="shop.celery", promises={}, timeout=1, **whom)
    assert result["failed"] and sentence in result["msg"]
    assert time.monotonic() - began < 30
    for pid in (never.with_name("pids")).read_text().split():
        assert not Path(f"/proc/{pid}").exists(), "the application still runs"


# A replay of dead letters that is killed.


class Broker:
    """In files, which outlive a killed replay: dead letters, what was sent back, and whether the operator's user exists."""

    def __init__(self, home: Path) -> None:
        self.home, self.steps, self.dies_at = home, 0, None
        self.letters, self.queue, self.user = home / "letters", home / "queue", home / "user"
        self.letters.write_text("id1\nid2\n")
        self.queue.touch()

    def step(self) -> None:
        if self.steps == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps += 1

    # rabbitmqctl

    def ask(self, expression: str) -> dict:
        ready = len(self.letters.read_text().split())
        queue = {"vhost": "shop", "ready": ready, "delivery_limit": None, "ttl": None, "letters": []}
        return {
            "letters": [queue],
            "queues": [],
            "version": "4.0.5",
            "listeners": [{"protocol": "amqp", "address": "127.0.0.1", "port": 5672}],
            "tls": {},
        }

    def load(self, definitions: dict) -> None:
        self.step()
        self.user.write_text(definitions["users"][0]["name"])
        self.step()

    def call(self, *arguments: str) -> str:
        self.step()
        if arguments == ("list_users",):
            return f"user\ttags\nshop\t[]\n{self.user.read_text()}\t[]\n" if self.user.exists() else "user\ttags\n"
        assert arguments == ("delete_user", self.user.read_text())
        self.user.unlink()
        return ""

    # AMQP: what a connection has not acknowledged is there again for the next one.

    def connect(self, *arguments: object, **options: object) -> Broker:
        self.waiting = self.letters.read_text().split()
        return self

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def get(self, queue: str) -> Message | None:
        if not self.waiting:
            return None
        name = self.waiting.pop(0)
        return Message(b"", {}, {"id": text(name), "x-last-death-queue": text("shop")}, int(name[2:]))

    def publish(self, exchange: str, queue: str, message: Message) -> None:
        self.step()
        with self.queue.open("a") as file:
            file.write(message.header("id") + "\n")
        self.step()

    def ack(self, tag: int) -> None:
        self.letters.write_text("".join(f"{name}\n" for name in self.letters.read_text().split() if name != f"id{tag}"))
        self.step()

    def finish(self) -> None:
        self.step()


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Broker:
    fake = Broker(tmp_path)
    for name in ("ask", "load", "call"):
        monkeypatch.setattr(rabbitmq_cli, name, getattr(fake, name))
    monkeypatch.setattr(rabbitmq_dead_letters, "Connection", fake.connect)
    monkeypatch.setattr(rabbitmq_dead_letters, "LOCK", str(tmp_path / "lock"))
    return fake


def replay() -> dict:
    return call(rabbitmq_dead_letters, action="replay", everything=True)


STEPS = range(10)


def test_a_replay_has_the_steps_at_which_the_test_below_kills_it(broker: Broker) -> None:
    assert len(replay()["replayed"]) == 2
    assert broker.steps == len(STEPS) and not broker.user.exists()
    assert broker.queue.read_text().split() == ["id1", "id2"] and not broker.letters.read_text()


@pytest.mark.parametrize("step", STEPS)
def test_a_replay_that_is_killed_loses_no_letter_and_its_user_goes_with_the_next(broker: Broker, step: int) -> None:
    broker.dies_at = step
    child = multiprocessing.get_context("fork").Process(target=replay)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    broker.dies_at = None
    assert not replay().get("failed")
    sent = broker.queue.read_text().split()
    assert set(sent) == {"id1", "id2"} and max(map(sent.count, sent)) <= 2
    assert not broker.letters.read_text() and not broker.user.exists()
