"""Each application of wrong_applications.yml is refused by name before a program runs it, by a real Celery without a broker."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ansible_collections.grunnfjell.platform.plugins.modules import celery_promises
from celery_projects import DEFAULTS, FILES, PLATFORM, VERSIONS, environment, write_project
from fleets import refused
from module_calls import call
from test_application_refusals import TIMERS

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
NO_BROKER = "amqps://127.0.0.1:1"  # a first deploy: a check that asked the broker would fail
APP = """
from celery import Celery
from kombu import Queue
from kombu.common import Broadcast
app = Celery("shop")
def work(): pass
"""
RUN = """#!/bin/sh
export PYTHONPATH={files}:{folder} CELERY_CONFIG_MODULE=grunnfjell_settings PATH={programs}:$PATH
exec "$@"
"""
QUEUES = ["shop", "mail"]
REFUSED = "The application breaks the promise. No program was changed."

# What the code does not show, since a program's arguments come later; each with the refusal of the inventory.
OF_ARGUMENTS = {
    "--pool=threads": "hold --pool threads, but the promise needs prefork",
    "--pool=solo": "hold --pool solo, but the promise needs prefork",
    "--time-limit=7200": "hold --time-limit 7200, but the promise needs more than 0 and at most 540 s",
    "--soft-time-limit=7100": "hold --soft-time-limit 7100, but the promise needs more than 0 and at most 510 s",
    "--prefetch-multiplier=4": "hold --prefetch-multiplier 4, but the promise needs 1",
}
# What neither the code nor the inventory shows: a worker's start changes it. In test_worker_rollback.py the live workers show it.
AT_THE_START = """
from celery.signals import celeryd_init
@celeryd_init.connect(weak=False)
def hurry(conf, **_): conf.worker_prefetch_multiplier = 4
"""


@pytest.fixture
def refusal(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The refusal of a release with this code on this version of Celery; empty for none."""

    def ask(code: str, version: str, client: str | None = None, waived: dict[str, str] | None = None, **files: str) -> str:
        folder = write_project(write, {"celery": APP + code, **files})
        settings = [PLATFORM.format(defaults=DEFAULTS), *(f"{name} = {value!r}" for name, value in PROMISES.items())]
        write("grunnfjell_settings.py", "\n".join([*settings, f"broker_url = {NO_BROKER!r}"]))
        run = write("run", RUN.format(files=FILES, folder=folder, programs=environment(version).parent))
        for program in (run, write("bin/runuser", '#!/bin/sh\nshift 3; exec "$@"\n')):  # without another account
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        given = ({"client": client} if client else {}) | {"waived_queues": waived or {}, "queues": [*QUEUES, *(waived or {})]}
        asked = {"run": str(run), "user": "shop", "app": "shop.celery", "promises": PROMISES, "code": True}
        return call(celery_promises, **asked, **given).get("msg", "")

    return ask


@pytest.mark.parametrize("version", VERSIONS)
def test_an_application_that_breaks_nothing_is_not_refused(refusal, version: str) -> None:
    code = """
app.task(work, name="shop.work", time_limit=30, queue="mail", priority=9)
app.conf.task_queues = [Queue("shop"), Queue("mail", queue_arguments={"x-max-length": 100, "x-overflow": "reject-publish"})]
"""
    assert refusal(code, version) == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_broadcast_and_a_queue_with_priorities_are_waived_by_the_names_in_the_code(refusal, version: str) -> None:
    code = """
app.task(work, name="shop.forget")
app.task(work, name="shop.work", priority=3)
ranked, stops = Queue("ranked", max_priority=9), Broadcast("all", queue="many", unique=True)
app.conf.task_queues = [Queue("shop"), ranked, Broadcast("cache"), stops]
app.conf.task_routes = {"shop.forget": {"queue": "cache"}, "shop.work": {"queue": "ranked"}}
"""
    waived = {"cache": "each empties its cache", "ranked": "urgent first", "all": "all stop"}
    assert refusal(code, version, waived=waived) == ""
    message = refusal(code, version)
    assert all(f"or name {queue} with a reason" in message for queue in waived), message


@pytest.mark.parametrize("wrong", APPLICATIONS, ids=lambda wrong: wrong["fault"])
def test_a_wrong_application_is_refused_with_its_sentence_before_any_program_runs_it(refusal, wrong: dict[str, str]) -> None:
    """None is left to the live workers: the code shows all of them."""
    verdict, *sentences = refusal(wrong["code"], wrong.get("celery", VERSIONS[-1])).splitlines()
    assert verdict == REFUSED
    assert [sentence for sentence in sentences if wrong["says"] in sentence], sentences


def test_what_a_web_process_changes_is_refused_before_any_web_server_runs_it(refusal) -> None:
    web = "from shop.celery import app\napp.conf.broker_url\napp.conf.task_always_eager = True\n"
    assert refusal("", VERSIONS[-1], web=web) == "", "a worker does not load it"
    message = refusal("", VERSIONS[-1], client="shop.web:app", web=web)
    assert message.startswith(REFUSED)
    assert "the code (shop): task_always_eager is True, but the promise needs False" in message


def test_a_task_of_a_module_that_only_a_worker_loads_is_refused(refusal) -> None:
    more = "from shop.celery import app\n@app.task(name='shop.late', acks_late=False)\ndef late(): pass\n"
    message = refusal("app.conf.include = ['shop.more']\n", VERSIONS[-1], more=more)
    assert "the code (shop): the task shop.late sets acks_late=False" in message


@pytest.mark.parametrize(("argument", "sentence"), OF_ARGUMENTS.items())
def test_what_only_a_program_s_arguments_show_is_refused_in_the_inventory(argument: str, sentence: str) -> None:
    (refused_program,) = refused(worker1=TIMERS | {"celery_worker_programs": [{"name": "shop", "arguments": [argument]}]})
    assert sentence in refused_program


def test_what_a_worker_changes_at_its_start_is_left_to_the_check_of_live_workers(refusal) -> None:
    assert refusal(AT_THE_START, VERSIONS[-1]) == ""


def test_the_code_is_checked_after_the_release_s_commands_and_before_anything_may_run_it() -> None:
    tasks = yaml.safe_load((REPOSITORY / "roles/application/tasks/main.yml").read_text(encoding="utf-8"))
    names = [task["name"] for task in tasks]
    first = names.index("Prepare the release")
    assert names[first : first + 4] == [
        "Prepare the release",
        "Check that the release's code keeps the promise, before any program changes",
        "Let programs run the release",
        "Run the application's commands at set times",
    ]
    assert "when" not in tasks[first + 1], "settings change without a new release"


def test_each_fault_is_listed_once() -> None:
    faults = [wrong["fault"] for wrong in APPLICATIONS]
    assert len(faults) == len(set(faults)) >= 25
