"""ansible-lint, whose syntax checks cost a third: `python -m lab.ci.lint`, with the arguments of ansible-lint.

It runs `ansible-playbook --syntax-check` for each playbook and role, more than a hundred times, and most of such a run loads
Ansible. Here each is a fork of one process that has loaded it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from multiprocessing.connection import Client
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

from ansiblelint import runner
from ansiblelint.__main__ import main as ansible_lint

from lab.machine import BIN, REPOSITORY


class SyntaxChecks:
    """Stands in for subprocess.run in ansible-lint's runner."""

    def __init__(self, home: Path) -> None:
        self.address, self.lock = str(home / "socket"), Lock()
        self.environment: dict[str, str] = {}
        self.server: subprocess.Popen[str] | None = None

    def run(self, command: list[str], *, env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
        with self.lock:
            if self.server is None:
                self.start(env)
        # The server's Ansible has read its environment already.
        if command[:2] != ["ansible-playbook", "--syntax-check"] or env != self.environment:
            return subprocess.run(command, env=env, **options)
        with Client(self.address, "AF_UNIX") as connection:
            connection.send(command)
            return subprocess.CompletedProcess(command, *connection.recv())

    def start(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.server = subprocess.Popen(
            [sys.executable, "-m", "lab.ci.syntax_server", self.address],
            cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if not self.server.stdout or self.server.stdout.readline() != "ready\n":
            raise SystemExit("the server of the syntax checks did not start")

    def stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.communicate()


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        checks = SyntaxChecks(Path(home))
        runner.subprocess = SimpleNamespace(run=checks.run, PIPE=subprocess.PIPE)
        try:
            status = ansible_lint([str(BIN / "ansible-lint"), *sys.argv[1:]])
        finally:
            checks.stop()
    raise SystemExit(status)


if __name__ == "__main__":
    main()
