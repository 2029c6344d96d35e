"""Running beats are counted on every host, whatever the inventory says of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import beats
from ansible_collections.grunnfjell.platform.plugins.modules.platform_status import ask
from test_status import HOSTS, fleet, report_of

BIN = "/opt/shop/releases/abc/environment/bin"


@pytest.mark.parametrize(
    ("line", "app"),
    [
        (f"{BIN}/python3 {BIN}/celery --app=shop.celery beat --schedule=/var/lib/shop/x", "shop.celery"),
        ("python3 -m celery -A shop beat", "shop"),
        ("/usr/bin/celery -b amqp://worker -Ashop beat -S django", "shop"),
        ("python3 -W ignore -m celery beat", None),  # an option of Python with a value: unknown, so not counted
        ("python3 -u -m celery beat", ""),
        ("pypy3 celery -A shop worker -B", "shop"),
        ("celery -A shop worker --loglevel=INFO --beat", "shop"),
        ("celery -A shop worker -EB -c 2", "shop"),
        ("celery -A beat worker -Q beat", None),
        ("celery -A shop worker -c 2", None),
        ("celery -A worker -B status", None),
        ("celery -A shop inspect beat", None),
        ("tail -f /var/log/celery/beat.log", None),
        ("runuser -u shop -- celery -A shop beat", None),  # its child is the beat
        ("vim celery beat", None),
        ("", None),
    ],
)
def test_a_beat_is_known_by_its_command_line(line: str, app: str | None) -> None:
    assert beats.beat_of(line.replace(" ", "\0") + "\0") == app


@pytest.mark.parametrize(
    ("title", "app"),
    [
        ("[celery beat] --app=shop.celery beat --schedule=x", "shop.celery"),
        ("[celery beat]", ""),
        ("[celeryd: celery@w1:MainProcess] -active- (-A shop worker -B)", "shop"),
        ("[celeryd: celery@w1:MainProcess] -active- (-A shop worker)", None),
        ("[celeryd: celery@w1:ForkPoolWorker-1]", None),
    ],
)
def test_a_beat_is_known_by_the_title_that_celery_may_give_it(title: str, app: str | None) -> None:
    assert beats.beat_of(title) == app


@pytest.mark.parametrize("kind", [["beat"], ["worker", "-B"]], ids=["beat", "embedded"])
def test_a_beat_with_children_is_one_beat(write: Callable[..., Path], kind: list[str]) -> None:
    # The test kills them long before their sleep ends.
    fork = "import os, sys, time\nos.fork()\nprint(flush=True)\ntime.sleep(60)\n"
    script = write("celery", fork)
    with subprocess.Popen([sys.executable, script, "-A", "shop", *kind], stdout=subprocess.PIPE, process_group=0) as process:
        try:
            assert process.stdout.readline() and process.stdout.readline()
            mine = [beat for beat in ask("beats", {})["running"] if beat["pid"] == process.pid]
            assert [beat["app"] for beat in mine] == ["shop"]
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            assert children and not {int(child) for child in children} & {beat["pid"] for beat in beats.running()}
        finally:
            subprocess.run(["kill", "--", f"-{process.pid}"], check=True)


def attention(scheduled: bool = True, **running: list[dict] | None) -> list[str]:
    """What the report says with these beats on the hosts; None: the host did not answer."""
    hosts = {name: replace(info, celery_app="shop.celery" if info.application else "") for name, info in HOSTS.items()}
    hosts["worker1"] = replace(hosts["worker1"], beat=scheduled)
    answers = fleet()
    for name in HOSTS:
        found = running.get(name, [])
        if found is None:
            answers[name] = {"unreachable": True, "msg": "No route to host"}
        else:
            answers[name]["sections"]["beats"] = {"running": found}
    return [sentence for sentence in report_of(answers, hosts)["attention"] if "beat" in sentence]


KIT = {"pid": 7, "app": "shop.celery", "application": "shop"}


def test_an_application_with_one_beat_or_no_schedule_needs_no_attention() -> None:
    assert attention(worker1=[KIT]) == attention(scheduled=False) == []


def test_a_schedule_without_a_running_beat_is_named() -> None:
    (sentence,) = attention()
    assert sentence == ("shop has a schedule and no running beat, so no scheduled task is sent: start celery-beat on worker1")
    assert attention(worker1=None) == [], "it may run on a host that did not answer"


@pytest.mark.parametrize(
    ("elsewhere", "counted"),
    [
        ({"web1": [{"pid": 9, "app": "shop", "application": ""}]}, True),
        ({"web1": [{"pid": 9, "app": "", "application": ""}]}, True),
        ({"db1": [{"pid": 9, "app": "shop:app", "application": ""}]}, True),
        ({"db1": [{"pid": 9, "app": "other", "application": "shop"}]}, True),
        ({"db1": [{"pid": 9, "app": "other", "application": ""}]}, False),
        ({"db1": [{"pid": 9, "app": "", "application": ""}]}, False),
    ],
)
def test_a_second_beat_is_named_with_its_host_and_process(elsewhere: dict, counted: bool) -> None:
    (host,) = elsewhere
    expected = [
        f"shop has 2 running beats (process 7 on worker1, process 9 on {host}), and each sends every scheduled task: stop all "
        f"but the one on worker1"
    ]
    assert attention(worker1=[KIT], **elsewhere) == (expected if counted else [])


def test_a_beat_on_another_host_than_the_inventory_says_is_named() -> None:
    (sentence,) = attention(web1=[KIT])
    assert "the beat of shop is process 7 on web1, but the inventory has it on worker1 (celery_worker_beat)" in sentence
