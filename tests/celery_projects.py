"""Celery projects that were not written for the kit, run by a real Celery with role application's files on the path."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lab.machine import REPOSITORY

FILES = REPOSITORY / "roles/application/files/etc/application"
# The ends of the range that docs/your-application.md names, and between them the version that most applications lock.
VERSIONS = ("5.5.3", "5.6.3", "5.7.0")
DJANGO = "5.2.7"

# What role application writes, in short.
PLATFORM = """
import grunnfjell_privacy as _privacy
_privacy.install()
_defaults = {defaults!r}
broker_url, broker_read_url, broker_write_url = "memory://platform", None, None
broker_transport_options = {{"confirm_publish": True}}
task_acks_late = task_reject_on_worker_lost = True
task_acks_on_failure = task_acks_on_timeout = task_acks_on_failure_or_timeout = False
task_always_eager = False
task_queue_max_priority = None
worker_prefetch_multiplier = 1
task_ignore_result = True
task_default_queue = task_default_exchange = task_default_routing_key = "shop"
task_default_exchange_type = task_create_missing_queue_exchange_type = "topic"
task_default_queue_type = task_create_missing_queue_type = "quorum"
"""
DEFAULTS = ("task_default_exchange", "task_default_queue", "task_default_routing_key", "task_ignore_result")

# Everything that an application may say about its work, and some of what the platform must overrule.
OWN = """
from kombu import Exchange, Queue
{p}BROKER_URL = "redis://localhost"
{p}BROKER_READ_URL = "redis://localhost"
{p}BROKER_TRANSPORT_OPTIONS = {{"visibility_timeout": 3600}}
{p}TASK_ALWAYS_EAGER = True
{p}TASK_ACKS_LATE = False
{p}TASK_QUEUE_MAX_PRIORITY = 3
{p}TASK_DEFAULT_QUEUE = "default"
{p}TASK_ROUTES = {{"shop.tasks.*": {{"queue": "fast"}}}}
{p}TASK_QUEUES = [
    Queue("default"),
    Queue("fast", Exchange("work"), routing_key="work.#"),
    Queue("slow", Exchange("work"), routing_key="work.#"),
]
{p}BEAT_SCHEDULE = {{"hourly": {{"task": "shop.tasks.order", "schedule": 3600}}}}
{p}IMPORTS = ["shop.more"]
{p}TIMEZONE = "Europe/Oslo"
"""
TASKS = """
from celery import shared_task
@shared_task
def order(): pass
"""
LINE = 'app.config_from_envvar("CELERY_CONFIG_MODULE")\n'
DJANGO_APP = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from celery import Celery
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
FLASK_APP = """
from celery import Celery
from flask import Flask
from shop import own
flask = Flask("shop")
flask.config["CELERY"] = {name: value for name, value in vars(own).items() if name.islower() and name[0] != "_"}
app = Celery(flask.name)
app.config_from_object(flask.config["CELERY"])
app.set_default()
"""
PROJECTS = {
    "Django": {"celery": DJANGO_APP},
    "Django, with the line of earlier versions": {"celery": DJANGO_APP + LINE},
    "Flask": {"celery": FLASK_APP},
    "a module": {"celery": "from celery import Celery\napp = Celery('shop')\napp.config_from_object('shop.own')\n"},
    "the line first": {
        "celery": f"from celery import Celery\napp = Celery('shop')\n{LINE}app.config_from_object('shop.own', force=True)\n"
    },
    "a module that is called celeryconfig": {
        "celery": "from celery import Celery\napp = Celery('shop')\napp.config_from_object('celeryconfig')\n"
    },
    "assignments": {
        "celery": "from celery import Celery\nfrom shop import own\napp = Celery('shop', broker='redis://localhost')\n"
        "app.conf.update({name: value for name, value in vars(own).items() if name.islower() and name[0] != '_'})\n"
    },
}


def environment(version: str) -> Path:
    """Python of an environment with this version of Celery, built once in build/."""
    folder = REPOSITORY / "build" / f"celery-{version}"
    if not (folder / "ready").exists():
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, folder], check=True)
        packages = [f"celery=={version}", f"django=={DJANGO}", "flask==3.1.2"]
        subprocess.run([uv, "pip", "install", "-q", "-p", folder / "bin/python", *packages], check=True)
        (folder / "ready").touch()
    return folder / "bin/python"


def write_project(write: Callable[..., Path], files: dict[str, str], defaults: tuple[str, ...] = DEFAULTS) -> Path:
    """The project `shop` with the platform's settings beside it; returns the directory."""
    lower = "\n".join(
        line.split(" =")[0].lower() + " =" + line.split(" =", 1)[1] if " = " in line and line[0] != " " else line
        for line in OWN.format(p="").splitlines()
    )
    settings = "SECRET_KEY = 'x'\nUSE_TZ = True\nINSTALLED_APPS = ['shop']\n" + OWN.format(p="CELERY_")
    for name, text in {"own": lower, "settings": settings, "tasks": TASKS, "more": "", "__init__": "", **files}.items():
        write(f"shop/{name}.py", text)
    write("celeryconfig.py", lower)
    return write("grunnfjell_settings.py", PLATFORM.format(defaults=defaults)).parent


def run(folder: Path, version: str, program: str, *before: Path, more: Mapping[str, str] = MappingProxyType({})) -> Any:
    """What the program prints as JSON, in the environment that role application gives each program of a release, and more."""
    path = ":".join(map(str, [*before, FILES, folder]))
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "CELERY_CONFIG_MODULE": "grunnfjell_settings"}
    argv = [environment(version), "-c", program]
    done = subprocess.run(argv, env={**more, **variables}, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
