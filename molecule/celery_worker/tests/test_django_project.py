"""A Django project keeps the promise without a line of its code, on each version of Celery that the kit supports."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.grunnfjell.platform.plugins.module_utils import publish_probe
from authority import REPOSITORY
from deadline import until
from django_project import EXCHANGES, FILES, QUEUES

testinfra_hosts = ["ansible://rabbitmq"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

FOLDER = "/var/tmp/grunnfjell-django"
UNITS = ("worker", "beat")
# TERM to the main process only, as supervisord does.
START = "systemd-run --quiet --collect --property=KillMode=mixed --property=TimeoutStopSec=20"
# As a release's `run`, with another environment and another code.
RUN = f"""#!/bin/sh
set -a
. /etc/NAME/environment
PYTHONPATH=/etc/NAME:{FOLDER}
set +a
PATH={FOLDER}/venv/bin:$PATH
cd {FOLDER} && exec "$@"
"""
WORKER = (
    f"celery -A shop worker --concurrency=1 --queues={','.join(QUEUES)} --hostname=django@here --without-gossip --without-mingle"
)
BEAT = f"celery -A shop beat --schedule={FOLDER}/beat"


@pytest.fixture(scope="module")
def project(host, inputs) -> Iterator[Callable[[str], str]]:
    """Writes the project; call it with a command to run it in the project's environment."""
    host.check_output(f"install -d -o {inputs['application_user']} {FOLDER} {FOLDER}/shop")
    for name, text in {**FILES, "run": RUN.replace("NAME", inputs["application_name"])}.items():
        host.check_output("printf %%s %s > %s", text, f"{FOLDER}/{name}")
    host.check_output(f"chmod 755 {FOLDER}/run && python3 -m venv {FOLDER}/venv")
    yield lambda command: host.check_output(f"runuser -u {inputs['application_user']} -- {FOLDER}/run {command}")
    host.run(f"rm -r {FOLDER}")


@pytest.fixture(params=["5.5.3", "5.6.3", "5.7.0"])
def deployed(request, host, inputs, project) -> Iterator[None]:
    """Its worker and its beat, with this version of Celery."""
    host.check_output(f"{FOLDER}/venv/bin/pip install -q --no-input celery=={request.param} django==5.2.7")
    # A name of its own, since systemd may keep a stopped unit loaded for a while.
    units = {unit: f"grunnfjell-django-{unit}-{uuid.uuid4().hex[:8]}" for unit in UNITS}
    for unit, command in zip(UNITS, (WORKER, BEAT), strict=True):
        line = f"exec {FOLDER}/run {command} >{FOLDER}/{unit}.log 2>&1"
        host.check_output(f"{START} --uid={inputs['application_user']} --unit=%s sh -c %s", units[unit], line)
    yield
    vhost = inputs["application_name"]
    for unit in units.values():
        host.run(f"systemctl stop {unit}")
    for queue in QUEUES:
        host.run(f"rabbitmqctl -q delete_queue -p {vhost} {queue}")
    for exchange in EXCHANGES:
        host.run(
            "rabbitmqctl -q eval %s",
            f'rabbit_exchange:delete({{resource, <<"{vhost}">>, exchange, <<"{exchange}">>}}, false, <<>>).',
        )
    host.run(f"rabbitmqctl -q purge_queue -p {vhost} dead_letters; rm -f {FOLDER}/done-* {FOLDER}/runs-*")


def promise_check(host, inputs, promises: dict, **how: object) -> dict:
    parameters = {
        "run": f"{FOLDER}/run",
        "user": inputs["application_user"],
        "app": "shop",
        "queues": [*QUEUES],
        "promises": promises,
    }
    return host.ansible("grunnfjell.platform.celery_promises", json.dumps(parameters | how), check=False)


@pytest.fixture
def promises(project) -> dict:
    """Those of role application, with their values on this host."""
    names = list(yaml.safe_load((REPOSITORY / "roles/application/vars/main.yml").read_text())["__application_promises"])
    code = f"import json, grunnfjell_settings as c; print(json.dumps({{name: getattr(c, name) for name in {names}}}))"
    return json.loads(project(f"python -c {shlex.quote(code)}"))


def test_a_django_project_keeps_the_promise_without_a_line_of_its_code(host, inputs, project, deployed, promises):
    vhost = inputs["application_name"]
    answer = promise_check(host, inputs, promises, nodes=["django@here"], logs=[f"{FOLDER}/{UNITS[0]}.log"])
    assert not answer.get("failed"), answer["msg"]
    answer = promise_check(host, inputs, promises, client="shop.celery:app")
    assert not answer.get("failed"), answer["msg"]

    held = host.check_output(f"rabbitmqctl -q list_queues -p {vhost} name type policy").splitlines()
    assert {tuple(line.split()) for line in held if line.startswith("django-")} == {(queue, "quorum", "work") for queue in QUEUES}

    # As on a fleet where nobody declares the platform's default queue: `make status` publishes to the project's own.
    other = "from grunnfjell_settings import *; task_default_queue = 'nobody'"
    host.check_output("printf %%s %s > %s", other, f"{FOLDER}/other_settings.py")
    probe = shlex.quote(Path(publish_probe.__file__).read_text())
    assert json.loads(project(f"env CELERY_CONFIG_MODULE=other_settings python -c {probe} 5 shop")) == {"confirmed": True}

    # A management command publishes to the platform's broker by the project's own routes, though CELERY_TASK_ALWAYS_EAGER is set.
    job = str(uuid.uuid4())
    code = f"from shop import tasks as t; t.raises.apply_async(task_id='{job}'); t.dies.delay(); t.waits.delay()"
    project(f"python manage.py shell -c {shlex.quote(code)}")
    for name in ("dies", "waits", "ticks"):  # after its child was killed, its retry by the broker's delay, and beat's schedule
        until(f"{name} is done", lambda name=name: host.file(f"{FOLDER}/done-{name}").exists, 60)
    (letter,) = until(
        "a dead letter", lambda: host.ansible("grunnfjell.platform.rabbitmq_dead_letters", check=False)["letters"], 30
    )
    assert (letter["id"], letter["task"], letter["reason"], letter["queue"]) == (
        job,
        "shop.tasks.raises",
        "rejected",
        "django-work",
    )
    runs = host.check_output(f"cd {FOLDER} && wc -l runs-*")
    assert "1 runs-shop.tasks.raises-django-work" in runs, "a job went to both queues of one exchange and key"
    assert "2 runs-shop.tasks.dies-django-work" in runs, runs
    assert "1 runs-shop.tasks.waits-django-mail" in runs and ".1.0.django-mail" in runs, "the retry waited in the worker"
    log = host.file(f"{FOLDER}/{UNITS[0]}.log").content_string
    assert "LookupError" in log and "Direct exchanges are not supported" not in log
