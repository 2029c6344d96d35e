"""Runs many ansible-playbook commands side by side, each a fork of one process that has Ansible loaded.

Nearly all of a short run is Python reading Ansible and the kit; what is forked is ansible-playbook's own main. Takes a list
of jobs as JSON on stdin, each with `arguments`, `environment` and `output` (a file), and answers with a line of JSON as each
one ends.
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


def read_the_kit() -> None:
    init_plugin_loader()
    # Each fork's own start configures it once more.
    warnings.filterwarnings("ignore", message="AnsibleCollectionFinder has already been configured")
    library = importlib.import_module(f"{KIT}.plugin_utils")
    for module in pkgutil.walk_packages(library.__path__, f"{library.__name__}."):
        importlib.import_module(module.name)
    # A host that carries `measured` in its variables is that, and is not asked: there is none. How a real one is read is
    # held against real hosts in molecule/topology/tests.
    action = importlib.import_module(f"{KIT}.action.resource_facts").ActionModule
    asked = action.run

    def run(self: Any, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        measured = (task_vars or {}).get("measured")
        return {"ansible_facts": measured} if measured else asked(self, tmp, task_vars)

    action.run = run
    filter_loader.get("grunnfjell.platform.python_literal")  # the first that is asked for has all of them read


def judge(job: dict[str, Any]) -> NoReturn:
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
    read_the_kit()
    waiting = json.load(sys.stdin)
    running: dict[int, int] = {}
    for number, job in enumerate(waiting):
        if len(running) >= 2 * (os.cpu_count() or 1):
            report(running)
        if pid := os.fork():
            running[pid] = number
        else:
            judge(job)
    while running:
        report(running)


def report(running: dict[int, int]) -> None:
    pid, status = os.wait()
    print(json.dumps({"job": running.pop(pid), "returncode": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
