"""Answers commands of ansible-playbook on a socket, each by a fork of this process, which has loaded Ansible."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from multiprocessing.connection import Connection, Listener
from typing import NoReturn

from ansible.cli.playbook import PlaybookCLI
from ansible.plugins.callback import default  # noqa: F401
from ansible.plugins.loader import init_plugin_loader
from ansible.plugins.strategy import linear  # noqa: F401


def answer(connection: Connection) -> NoReturn:
    """Run the command, and send its exit code, output and errors. Whoever asks sees the end of the file if this dies."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
            status: str | int | None = 0
            try:
                PlaybookCLI.cli_executor(connection.recv())
            except SystemExit as end:
                status = end.code
            sys.stdout.flush()
            sys.stderr.flush()
            texts = []
            for file in (stdout, stderr):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
            connection.send((status or 0, *texts))
    finally:
        os._exit(0)


def main() -> None:
    init_plugin_loader()
    # Nobody waits for the forks.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with Listener(sys.argv[1], "AF_UNIX", backlog=64) as listener:
        print("ready", flush=True)
        while True:
            with listener.accept() as connection:
                if os.fork() == 0:
                    answer(connection)


if __name__ == "__main__":
    main()
