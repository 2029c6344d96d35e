"""Runs many ansible-playbook commands in parallel, each as a fork of one process that has already run the first of them.

Most of a short run is what every run repeats: Ansible and the kit are imported, plugins found, the roles' files read, the same
templates compiled. Here it happens once, before the forks: the first job runs one time more. Each fork then reads its
inventory and checks it from scratch, and its tasks run in it, without a process for each.

Reads a list of jobs as JSON from stdin, each with `arguments`, `environment` and `output` (a file), and prints a line of JSON
when a job ends.
"""

import copy
import functools
import gc
import importlib
import json
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn
from unittest.mock import patch

from ansible import context
from ansible._internal._task import TaskContext
from ansible._internal._templating._jinja_bits import AnsibleEnvironment, _TemplateCompileContext
from ansible.cli.playbook import PlaybookCLI
from ansible.executor.process.worker import WorkerProcess
from ansible.executor.task_executor import TaskExecutor
from ansible.executor.task_result import _RawTaskResult
from ansible.module_utils._internal._datatag import _AnsibleTaggedFloat, _AnsibleTaggedInt, _AnsibleTaggedStr
from ansible.module_utils.compat import typing
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecretsContext
from ansible.plugins.callback import default  # noqa: F401
from ansible.plugins.connection import local  # noqa: F401
from ansible.plugins.loader import filter_loader, init_plugin_loader
from ansible.plugins.strategy import linear  # noqa: F401
from ansible.utils.context_objects import CLIArgs

ROOT = Path(__file__).resolve().parents[1]
KIT = "ansible_collections.grunnfjell.platform.plugins"
# Of the kit, by path: no run changes them, and Ansible hands out copies.
FILES: dict[str, Any] = {}
SHARED = tuple(f"{ROOT / folder}/" for folder in ("roles", "playbooks"))


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


def remember_what_is_equal() -> None:
    """Type hints of a class, compiled templates and the kit's files are the same in every run."""
    typing.get_type_hints = functools.cache(typing.get_type_hints)

    # A copy of an immutable value is the value.
    for kind in (_AnsibleTaggedStr, _AnsibleTaggedInt, _AnsibleTaggedFloat):
        copy._deepcopy_dispatch[kind] = copy._deepcopy_atomic

    compile_template = AnsibleEnvironment.compile
    codes: dict[tuple[str, bool], CodeType] = {}

    def compile_once(self: AnsibleEnvironment, source: Any, *arguments: Any, **options: Any) -> CodeType:
        if arguments or options or self.overlayed or not isinstance(source, str):
            return compile_template(self, source, *arguments, **options)
        explicit = _TemplateCompileContext.current(optional=True)
        key = (str(source), bool(explicit and explicit.escape_backslashes))
        if key not in codes:
            codes[key] = compile_template(self, source)
        return codes[key]

    AnsibleEnvironment.compile = compile_once

    begin = DataLoader.__init__

    def begin_with_files(self: DataLoader) -> None:
        begin(self)
        self._FILE_CACHE |= FILES

    DataLoader.__init__ = begin_with_files


def run_task_here(worker: WorkerProcess) -> None:
    """In this process, which is a fork already. The task is a copy, as it is in a process of its own."""
    parent = worker._task._parent
    worker._task = worker._task.copy(exclude_parent=True, exclude_tasks=True)
    worker._task._parent = parent
    with TaskContext(worker._task):
        result = TaskExecutor(
            worker._host, worker._task, worker._task_vars, worker._play_context, worker._loader, worker._shared_loader_obj,
            worker._final_q, worker._variable_manager,
        ).run()  # fmt: skip
    fields = worker._task.dump_attrs()
    worker._final_q.send_task_result(_RawTaskResult(host=worker._host, task=worker._task, return_data=result, task_fields=fields))


@contextmanager
def written_to(path: str) -> Iterator[None]:
    """What this process and its children print is in the file."""
    kept = os.dup(1), os.dup(2)
    with Path(path).open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)


def run_playbook(job: dict[str, Any]) -> int:
    with written_to(job["output"]), patch.dict(os.environ, job["environment"]):
        try:
            PlaybookCLI.cli_executor(["ansible-playbook", *job["arguments"]])
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
    return 1


def warm_up(job: dict[str, Any]) -> None:
    """Run it before the forks. What Ansible sets once per process is left for them to set."""
    loaders: list[DataLoader] = []
    vault = DataLoader.set_vault_secrets

    def note(self: DataLoader, secrets: Any) -> None:
        loaders.append(self)
        vault(self, secrets)

    def set_arguments(options: Any) -> None:
        context.CLIARGS = CLIArgs.from_options(options)

    with (
        patch.object(context, "_init_global_context", set_arguments),
        patch.object(VaultSecretsContext, "initialize"),
        patch.object(DataLoader, "set_vault_secrets", note),
    ):
        run_playbook(job | {"output": f"{job['output']}-before-the-forks"})
    for loader in loaders:
        # Ansible knows them by the collection's path, a link to this checkout.
        FILES.update((path, content) for path, content in loader._FILE_CACHE.items() if os.path.realpath(path).startswith(SHARED))
    assert FILES, "Ansible keeps what it has read in another place now"


def run_and_exit(job: dict[str, Any]) -> NoReturn:
    status = 1
    try:
        status = run_playbook(job)
    finally:
        os._exit(status)


def main() -> None:
    load_kit()
    remember_what_is_equal()
    WorkerProcess.start = run_task_here
    waiting = json.load(sys.stdin)
    warm_up(waiting[0])
    # A fork that neither collects nor touches the counters of old objects shares their memory.
    gc.collect()
    gc.freeze()
    gc.disable()
    running: dict[int, int] = {}
    for number, job in enumerate(waiting):
        if len(running) >= (os.cpu_count() or 1):
            report_end(running)
        if pid := os.fork():
            running[pid] = number
        else:
            run_and_exit(job)
    while running:
        report_end(running)


def report_end(running: dict[int, int]) -> None:
    pid, status = os.wait()
    print(json.dumps({"job": running.pop(pid), "returncode": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
