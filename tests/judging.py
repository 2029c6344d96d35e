"""Runs many ansible-playbook commands side by side, each a fork of one process that has Ansible loaded.

Nearly all of a short run is Python reading Ansible and the kit; what is forked is ansible-playbook's own main. Takes a list
of jobs as JSON on stdin, each with `arguments`, `environment` and `output` (a file), and answers with a line of JSON as each
one ends.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from ansible.cli.playbook import PlaybookCLI
from ansible.plugins.callback import default  # noqa: F401
from ansible.plugins.connection import local  # noqa: F401
from ansible.plugins.loader import filter_loader
from ansible.plugins.strategy import linear  # noqa: F401

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"


def read_the_kit() -> None:
    sys.path.insert(0, str(PLUGINS))
    for path in sorted((PLUGINS / "fleet").rglob("*.py")):
        importlib.import_module(".".join(path.relative_to(PLUGINS).with_suffix("").parts).removesuffix(".__init__"))
    filter_loader.get("python_literal")  # the first that is asked for has all of them read


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
