"""Managed by Grunnfjell. Prints the settings in force in this release's programs, as JSON, for the platform to check.

grunnfjell_account workers APP ATTRIBUTES NODE...   of the live workers
grunnfjell_account clients APP ATTRIBUTES [MODULE]  of this release's code: loads the same modules as the web process that serves
                                                    MODULE, or without it as a worker. Asks neither a worker nor the broker.
"""

import importlib
import json
import os
import re
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import celery
import grunnfjell_settings
from celery._state import _get_active_apps
from celery.app.defaults import DEFAULTS
from celery.app.utils import find_app
from celery.worker.control import registered
from kombu.serialization import register
from kombu.utils import json as kombu_json

FINGERPRINT = "APPLICATION_FINGERPRINT="


def started_for(pid):
    """The release that a process was started for. A worker of the same name may still run the previous one."""
    environment = Path(f"/proc/{pid}/environ")
    lines = environment.read_text(errors="replace").split("\0") if environment.exists() else []
    return next((line.removeprefix(FINGERPRINT) for line in lines if line.startswith(FINGERPRINT)), "")


def version():
    """This release's Celery, and the settings that it knows."""
    return {"version": celery.__version__, "settings": sorted(DEFAULTS)}


def destinations(app):
    """Queue of each task of the application, by its own routes. A route may be a function, which only this process can ask."""
    queues = {}
    for name, task in app.tasks.items():
        if not name.startswith("celery."):
            # A function that needs the job's arguments cannot be asked without them.
            with suppress(Exception):
                queue = app.amqp.router.route({}, name, args=(), kwargs={}, task_type=task)["queue"]
                # A Broadcast's name has a UUID, another one in each process; its alias is the same in all.
                queues[name] = (re.search("-[0-9a-f]{12}$", queue.name) and queue.alias) or queue.name
    return queues


def workers(name, attributes, *nodes):
    """Each kind of answer by node; nodes that do not answer are missing."""
    app = find_app(name)
    app.loader.import_default_modules()
    # A default of Celery is infinite, which an application may have removed from Python's JSON (pretix does).
    loads = partial(kombu_json.loads, _loads=partial(json.loads, parse_constant=float))
    register("json", kombu_json.dumps, loads, content_type="application/json", content_encoding="utf-8")
    inspect = app.control.inspect(destination=nodes, timeout=3, limit=len(nodes))
    stats, leaks = inspect.stats() or {}, inspect._request("grunnfjell_leaks") or {}
    return {
        "conf": inspect.conf(with_defaults=True) or {},
        "tasks": inspect.registered(*attributes.split(",")) or {},
        "queues": inspect.active_queues() or {},
        "pools": {node: answer["pool"] for node, answer in stats.items()},
        "fingerprints": {node: started_for(answer["pid"]) for node, answer in stats.items()},
        "celery": {node: version() for node in stats},
        "destinations": {node: destinations(app) for node in stats},
        "leaks": {node: answer.get("leaks", [str(answer)]) for node, answer in leaks.items()},
    }


def clients(name, attributes, module=""):
    """The settings, tasks and queues of every Celery application in this process that publishes to the platform's broker."""
    applications = [find_app(name)]
    if module:
        importlib.import_module(module)
        applications += [app for app in _get_active_apps() if app.conf.broker_url == grunnfjell_settings.broker_url]
    else:
        applications[0].loader.import_default_modules()
    return {"clients": [[app.main or name, client(app, attributes.split(","))] for app in dict.fromkeys(applications)]}


def client(app, attributes):
    queues = [queue.as_dict(recurse=True) for queue in app.amqp.queues.values()]
    return {
        "conf": app.conf.table(with_defaults=True),
        # As a live worker lists them.
        "tasks": registered(SimpleNamespace(app=app), attributes),
        "queues": queues,
        "celery": version(),
        "destinations": destinations(app),
    }


def main():
    kind, *arguments = sys.argv[1:]
    account = json.dumps({"workers": workers, "clients": clients}[kind](*arguments), default=str)
    # On a separate line, after any output of the application's import.
    print(f"\n{account}", flush=True)
    # Do not wait for threads that the application started on import.
    os._exit(0)


if __name__ == "__main__":
    main()
