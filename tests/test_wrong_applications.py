"""Each application of wrong_applications.yml is refused by name, as a real Celery reports it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ansible_collections.grunnfjell.platform.plugins.modules.celery_promises import ATTRIBUTES, broken, unconsumed_jobs
from celery_projects import DEFAULTS, PLATFORM, VERSIONS, run, write_project

from lab.machine import REPOSITORY

APPLICATIONS = yaml.safe_load((REPOSITORY / "tests/wrong_applications.yml").read_text(encoding="utf-8"))
ROLE = yaml.safe_load((REPOSITORY / "roles/application/vars/main.yml").read_text(encoding="utf-8"))["__application_promises"]
# What the role computes from the inventory.
COMPUTED = {
    "broker_use_ssl": {"ca_certs": "/authorities.pem", "cert_reqs": 2, "server_hostname": "10.0.0.1"},
    "broker_transport_options": {"confirm_publish": True},
    "task_soft_time_limit": 510,
    "task_time_limit": 540,
}
PROMISES = ROLE | COMPUTED
APP = """
from celery import Celery
from kombu import Queue
from kombu.common import Broadcast
app = Celery("shop")
def work(): pass
"""
ANSWER = f"""
import json
from types import SimpleNamespace
from celery.worker.control import registered
import grunnfjell_account as account
from shop.celery import app
tasks = registered(SimpleNamespace(app=app), {ATTRIBUTES!r})
print(json.dumps(account.client(app) | {{"tasks": tasks}}, default=str))
"""
QUEUES = ["shop", "mail"]


@pytest.fixture
def sentences(write: Callable[..., Path]) -> Callable[[str, str], list[str]]:
    """What is said of the application with this code on this version of Celery."""

    def say(code: str, version: str, waived: dict | None = None) -> list[str]:
        folder = write_project(write, {"celery": APP + code})
        settings = [PLATFORM.format(defaults=DEFAULTS), *(f"{name} = {value!r}" for name, value in PROMISES.items())]
        write("grunnfjell_settings.py", "\n".join(settings))
        answer = run(folder, version, ANSWER)
        return broken("w@1", answer, PROMISES, {}, waived) + unconsumed_jobs("w@1", answer, [*QUEUES, *(waived or {})], {})

    return say


@pytest.mark.parametrize("version", VERSIONS)
def test_an_application_that_breaks_nothing_is_not_refused(sentences, version: str) -> None:
    code = """
app.task(work, name="shop.work", time_limit=30, queue="mail", priority=9)
app.conf.task_queues = [Queue("shop"), Queue("mail", queue_arguments={"x-max-length": 100, "x-overflow": "reject-publish"})]
"""
    assert sentences(code, version) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_broadcast_and_a_queue_with_priorities_are_waived_by_the_names_in_the_code(sentences, version: str) -> None:
    code = """
app.task(work, name="shop.forget")
app.task(work, name="shop.work", priority=3)
ranked, stops = Queue("ranked", max_priority=9), Broadcast("all", queue="many", unique=True)
app.conf.task_queues = [Queue("shop"), ranked, Broadcast("cache"), stops]
app.conf.task_routes = {"shop.forget": {"queue": "cache"}, "shop.work": {"queue": "ranked"}}
"""
    assert sentences(code, version, {"cache": "each empties its cache", "ranked": "urgent first", "all": "all stop"}) == []
    refusals = sentences(code, version)
    assert all(any(f"or name {queue} with a reason" in sentence for sentence in refusals) for queue in ("cache", "ranked", "all"))


@pytest.mark.parametrize("wrong", APPLICATIONS, ids=lambda wrong: wrong["fault"])
def test_a_wrong_application_is_refused_with_its_sentence(sentences, wrong: dict[str, str]) -> None:
    refusals = sentences(wrong["code"], wrong.get("celery", VERSIONS[-1]))
    assert [sentence for sentence in refusals if wrong["says"] in sentence], json.dumps(refusals, indent=1)


def test_each_fault_is_listed_once() -> None:
    faults = [wrong["fault"] for wrong in APPLICATIONS]
    assert len(faults) == len(set(faults)) >= 25
