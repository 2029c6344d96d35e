"""Each row of the table in docs/your-application.md does what it promises, with the exact lines of the page.

A row's lines go through the role's own expressions and templates and through topology's checks; the code beside them is a small
project of that kind, run by a real Celery with the kit's sitecustomize, as a worker and as a web process.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.modules.application_timers import files_of
from ansible_collections.grunnfjell.platform.plugins.modules.celery_promises import ATTRIBUTES, broken, unconsumed_jobs
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.flows import flows
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals.programs import consumed_queues
from application_projects import PROJECTS, RESULT, Project
from application_table import EVERYWHERE, PAGE, PRODUCERS, WORKERS, Inventory, Line, Row, rows, sites
from celery_projects import VERSIONS, environment, run, write_project

VERSION = VERSIONS[-1]
TEXT = PAGE.read_text(encoding="utf-8")
TABLE = rows(TEXT)
ANSWER = """
import importlib, json
from wsgiref.util import setup_testing_defaults
from celery.app.utils import find_app
from kombu.transport.memory import Channel
import grunnfjell_account as account

def waiting():
    return {{name: queue.qsize() for name, queue in Channel.queues.items() if queue.qsize()}}

def request(path):
    environ, statuses = {{"HTTP_HOST": {host!r}, "PATH_INFO": path, "wsgi.url_scheme": "https"}}, []
    setup_testing_defaults(environ)
    module, _, name = {wsgi!r}.partition(":")
    list(getattr(importlib.import_module(module), name)(environ, lambda status, headers, *_: statuses.append(status)))
    return statuses[0]

app = find_app({app!r})
(_, code), *_ = account.clients({app!r}, {attributes!r})["clients"]
of_workers = {{"tasks": code["tasks"]}}
clients = dict(account.clients({app!r}, {attributes!r}, {wsgi!r}.partition(":")[0])["clients"])
statuses, result = [request({health!r}), request("/")], {{"waiting": waiting()}}
{more}
print(json.dumps({{"of_workers": of_workers, "clients": clients, "statuses": statuses, "result": result}}, default=str))
"""


def answer_of(row: Row, project: Project, inventory: Inventory, write: Callable[..., Path]) -> dict[str, Any]:
    """What the project reports with the row's lines, once the kit's checks of the inventory have passed."""
    folder = written(row, project, write)
    variables = inventory.write_settings("web1", folder)
    names = {
        "app": "application_celery_app",
        "wsgi": "producer_wsgi_app",
        "host": "__producer_host",
        "health": "producer_health_path",
    }
    values = inventory.ask("web1", [], {key: f"{{{{ {name} }}}}" for key, name in names.items()})
    program = ANSWER.format(**values, attributes=",".join(ATTRIBUTES), more=project.program)
    return run(folder, VERSION, program, more=variables)


def written(row: Row, project: Project, write: Callable[..., Path]) -> Path:
    """The project with the row's code in it; returns its directory."""
    files = {path: text.replace("# LINES", row.code) for path, text in project.files.items()}
    text = "\n".join(f"{path}\n{text}" for path, text in files.items())
    strange = [code for code in row.kind if code not in text]
    place = any("# LINES" in text for text in project.files.values())
    assert place or not row.code, f"the project of the row '{row.name}' has no place (# LINES) for the row's code"
    assert not strange, f"the project of the row '{row.name}' has no {strange[0]}, which the row is for"
    folder = write_project(write, {})
    for path, content in files.items():
        write(path, content)
    return folder


def execute(row: Row, write: Callable[..., Path]) -> None:
    project = PROJECTS[row.name]
    inventory = Inventory(row, project.given)
    assert inventory.refusals() == []
    answer = answer_of(row, project, inventory, write)
    consumed = consumed_queues([inventory.host(name) for name in WORKERS])
    assert consumed == sorted({queue for name in WORKERS for queue in queues_started(inventory, name)})
    assert broken_promises(answer, inventory, consumed) == []
    assert answer["statuses"][0].startswith("200 "), "the web application is not healthy by the name and path that the kit checks"
    assert answer["statuses"][1].startswith("202 "), (
        "the web application did not accept a job by the name that the kit checks it by"
    )
    assert set(answer["result"]["waiting"]) <= set(consumed), "a job waits where no program consumes"
    assert answer["result"] == project.result
    if row.name in MORE:
        MORE[row.name](row, inventory, write)


def broken_promises(answer: dict[str, Any], inventory: Inventory, consumed: list[str]) -> list[str]:
    """The sentences of the promise check against the project's worker and each of its publishers."""
    promises = inventory.value("web1", "__application_promises")
    states = [(name, client | answer["of_workers"]) for name, client in answer["clients"].items()]
    checks = [broken(*state, promises, {}) + unconsumed_jobs(*state, consumed, {}) for state in states]
    return [sentence for sentences in checks for sentence in sentences]


def queues_started(inventory: Inventory, host: str) -> list[str]:
    """The queues in the command lines of the host's programs."""
    arguments = [argument for program in inventory.value(host, "__celery_worker_workers") for argument in program["argv"]]
    given = [argument.removeprefix("--queues=") for argument in arguments if argument.startswith("--queues=")]
    return [queue for queues in given for queue in queues.split(",")]


# --- What a row promises besides its settings -------------------------------------------------------------------------------


def on_both(row: Row, project: Project) -> list[str]:
    """The refusals if the lines of one host were for all."""
    everywhere = replace(row, lines=tuple(replace(line, host=EVERYWHERE) for line in row.lines))
    return Inventory(everywhere, project.given).refusals()


def beat_runs_on_one_host(row: Row, inventory: Inventory, write: Callable[..., Path]) -> None:
    first, second = (inventory.value(name, "__celery_worker_beats") for name in WORKERS)
    assert [program["argv"][:3] for program in first] == [["celery", "--app=shop.celery", "beat"]] and second == []
    assert any("has 2 beats" in sentence for sentence in on_both(row, PROJECTS[row.name]))


def the_timer_runs_its_command(row: Row, inventory: Inventory, write: Callable[..., Path]) -> None:
    timers, others = (inventory.value(name, "application_timers") for name in WORKERS)
    assert len(timers) == 1 and others == []
    assert any("would run on each" in sentence for sentence in on_both(row, PROJECTS[row.name]))
    params = {"application": "shop", "run": "/opt/shop/current/run", "user": "www-data", "confinement": "", "timeout": 3600}
    unit, _, times = (file.content for file in files_of(params, timers[0], "grunnfjell-timer-shop-sessions"))
    settings = dict(line.split("=", 1) for line in (unit + times).splitlines() if "=" in line)
    assert settings["OnCalendar"] == "03:30"
    # The directory of the release's code, which is the project here.
    assert settings["WorkingDirectory"] == "/opt/shop/current/src"
    script, *command = shlex.split(settings["ExecStart"])
    folder = written(row, PROJECTS[row.name], write)
    variables = inventory.write_settings("worker1", folder) | {
        "PYTHONPATH": str(folder),
        "PATH": str(environment(VERSION).parent),
    }
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert (script, done.returncode) == ("/opt/shop/current/run", 0), done.stderr


def the_address_is_that_of_a_site(row: Row, inventory: Inventory, write: Callable[..., Path]) -> None:
    (declared,) = (site for site in sites(TEXT) if any(f"{site['addresses'][0]}" in line.text for line in row.lines))
    assert any(f"{declared['addresses'][0]}{suffix}" in row.inventory("web1") for suffix in ("/", f":{declared['ports'][0]}/"))


def a_result_arrives(row: Row, inventory: Inventory, write: Callable[..., Path]) -> None:
    the_address_is_that_of_a_site(row, inventory, write)
    folder = written(row, PROJECTS[row.name], write)
    variables = inventory.write_settings("worker1", folder) | {"RESULT_BACKEND": "cache+memory://"}
    assert run(folder, VERSION, RESULT, more=variables) == "sent"


def other_priorities_are_refused(row: Row, inventory: Inventory, write: Callable[..., Path]) -> None:
    tasks, code = (PROJECTS[row.name].files[f"shop/{name}.py"] for name in ("tasks", "celery"))
    ranked = {"shop/tasks.py": tasks + tasks.replace("9", "3").replace("urgent", "soon")}
    ranked |= {"shop/celery.py": code + "app.conf.task_queues = [Queue('shop', max_priority=5)]\n"}
    project = replace(PROJECTS[row.name], files={**PROJECTS[row.name].files, **ranked}, program="")
    first, second = broken_promises(answer_of(row, project, inventory, write), inventory, ["shop"])
    assert "its tasks have the priorities 0, 3, which are one to a quorum queue" in first
    assert "the queue shop declares 5 priorities, which only a classic queue has" in second


MORE = {
    "it has a schedule": beat_runs_on_one_host,
    "it has cron jobs": the_timer_runs_its_command,
    "it reads results": a_result_arrives,
    "it uses priorities": other_priorities_are_refused,
    "it shares files": the_address_is_that_of_a_site,
}


# --- The table --------------------------------------------------------------------------------------------------------------


def test_each_row_of_the_table_is_executed() -> None:
    assert not set(TABLE) - set(PROJECTS), "no test executes these rows: give each a project in tests/application_projects.py"
    assert not set(PROJECTS) - set(TABLE), "the table has no such rows: take their projects out of tests/application_projects.py"
    assert set(MORE) <= set(PROJECTS)


@pytest.mark.parametrize("name", TABLE)
def test_the_lines_of_a_row_do_what_it_promises(write: Callable[..., Path], name: str) -> None:
    execute(TABLE[name], write)


@pytest.mark.parametrize(
    ("name", "line"),
    [(row.name, line) for row in TABLE.values() for line in row.lines],
    ids=lambda value: getattr(value, "text", value),
)
def test_a_row_does_not_do_without_any_of_its_lines(write: Callable[..., Path], name: str, line: Line) -> None:
    with pytest.raises(AssertionError):
        execute(TABLE[name].without(line), write)


# --- Services outside the fleet ---------------------------------------------------------------------------------------------


def outside(declared: list[dict[str, Any]]) -> Inventory:
    """An application whose inventory declares these sites."""
    return Inventory(TABLE["it reads results"], PROJECTS["it reads results"].given, declared)


def reached(inventory: Inventory) -> set[tuple[str, str, int]]:
    """Each host with the address and the port outside the fleet that it may connect to."""
    opened = [flow for flow in flows(inventory.fleet()) if flow.purpose == "service"]
    return {(flow.source.name, address, flow.port) for flow in opened for address in flow.destination.addresses}


def test_the_declared_services_are_reached_by_every_host_of_the_application_and_by_no_other() -> None:
    inventory = outside(sites(TEXT))
    assert inventory.refusals() == []
    services = {("10.0.0.60", 6379), ("10.0.0.61", 9000)}
    assert reached(inventory) == {(host, *service) for host in (*WORKERS, *PRODUCERS) for service in services}
    assert reached(outside([])) == set()


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("name", "has no plain name"),
        ("kind", "is of the kind 'None', which does not exist"),
        ("addresses", "has no list of addresses"),
        ("ports", "has no ports, and a service has no default"),
        ("country", "is not declared"),
    ],
)
def test_a_service_is_not_declared_without_any_of_its_keys(key: str, sentence: str) -> None:
    (service, *_) = sites(TEXT)
    refusals = outside([{name: value for name, value in service.items() if name != key}]).refusals()
    assert any(sentence in refusal for refusal in refusals), refusals


# --- A wrong page is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("`application_celery_app: shop.celery`", "`shop.celery`", "has shop.celery, which is neither"),
        ("`application_celery_app: shop.celery`", "the module", "has no exact line in its second column"),
        ("`application_celery_app: shop.celery`", "`application_celery: x`", "has application_celery, which is not an input"),
        ("**plain Celery**", "**Flask**", "two rows of the table have the same bold words"),
        ("| what you write |", "| write |", "has no table with the head"),
    ],
)
def test_a_table_that_nobody_can_execute_is_refused(old: str, new: str, sentence: str) -> None:
    assert old in TEXT
    with pytest.raises(AssertionError, match=sentence):
        rows(TEXT.replace(old, new))
