"""Runs many ansible-playbook commands in parallel, each as a fork of one process that has loaded Ansible and the kit.

Loading them takes most of a short run. Reads a list of jobs as JSON from stdin, each with `arguments`, `environment` and
`output` (a file), and prints a line of JSON when a job ends.
"""

import importlib
import json
import os
import pkgutil
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

from ansible.cli.playbook import PlaybookCLI
from ansible.plugins.callback import default  # noqa: F401
from ansible.plugins.connection import local  # noqa: F401
from ansible.plugins.loader import filter_loader, init_plugin_loader
from ansible.plugins.strategy import linear  # noqa: F401

KIT = "ansible_collections.grunnfjell.platform.plugins"


def load_kit() -> None:
    init_plugin_loader()
    # Each fork configures it again.
    warnings.filterwarnings("ignore", message="AnsibleCollectionFinder has already been configured")
    library = importlib.import_module(f"{KIT}.plugin_utils")
    for module in pkgutil.walk_packages(library.__path__, f"{library.__name__}."):
        importlib.import_module(module.name)
    # These hosts do not exist: their variable `measured` stands in. molecule/topology/tests measures real ones.
    action = importlib.import_module(f"{KIT}.action.resource_facts").ActionModule
    measure = action.run

    def run(self: Any, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        measured = (task_vars or {}).get("measured")
        return {"ansible_facts": measured} if measured else measure(self, tmp, task_vars)

    action.run = run
    filter_loader.get("grunnfjell.platform.python_literal")  # loads all filters


def run_playbook(job: dict[str, Any]) -> NoReturn:
    with Path(job["output"]).open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ |= job["environment"]
    status = 1
    try:
        PlaybookCLI.cli_executor(["ansible-playbook", *job["arguments"]])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    load_kit()
    waiting = json.load(sys.stdin)
    running: dict[int, int] = {}
    for number, job in enumerate(waiting):
        if len(running) >= 2 * (os.cpu_count() or 1):
            report_end(running)
        if pid := os.fork():
            running[pid] = number
        else:
            run_playbook(job)
    while running:
        report_end(running)


def report_end(running: dict[int, int]) -> None:
    pid, status = os.wait()
    print(json.dumps({"job": running.pop(pid), "returncode": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
