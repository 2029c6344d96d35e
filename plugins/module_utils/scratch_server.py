"""Starts a PostgreSQL server on a restored directory, reachable by a private socket only, and removes it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

from . import psql
from .bounded import identity
from .pgbackrest import ACCOUNT, ENVIRONMENT
from .row_counts import Server

PORT = 5432
# On the command line, where they override the settings of the restored database: no network, no archive, no code of extensions
# that this host does not have.
SETTINGS = {
    "archive_mode": "off",
    "autovacuum": "off",
    "hot_standby": "off",
    "huge_pages": "off",
    "listen_addresses": "",
    "max_connections": "20",
    "max_prepared_transactions": "100",
    "shared_buffers": "128MB",
    "shared_preload_libraries": "",
    "ssl": "off",
    "logging_collector": "off",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class ScratchError(Exception):
    """Why the restored server is not in service, as a sentence."""


class ScratchServer:
    """home: directory of the restored data and the server's files.  sockets: directory for the socket, short enough for one."""

    def __init__(self, home: Path, sockets: Path, major: int) -> None:
        self.home, self.sockets, self.data = home, sockets, home / "data"
        self.server = Server(PORT, major, str(sockets))
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ScratchServer:
        self.remove()
        for directory in (self.home, self.sockets, self.data):
            directory.mkdir(parents=True, mode=0o700)
            shutil.chown(directory, ACCOUNT, ACCOUNT)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()

    def start(self, seconds: float) -> None:
        """Returns once the server has replayed everything and accepts writes."""
        hba, log = self.home / "pg_hba.conf", self.home / "log"
        configuration = self.home / "postgresql.conf"
        hba.write_text("local all postgres peer\n", encoding="utf-8")
        configuration.write_text("", encoding="utf-8")
        settings = SETTINGS | {
            "config_file": str(configuration),
            "hba_file": str(hba),
            "unix_socket_directories": str(self.sockets),
            "port": str(PORT),
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        binary = f"/usr/lib/postgresql/{self.server.major}/bin/postgres"
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [binary, "-D", str(self.data), *options], cwd="/", env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True, **identity(ACCOUNT),
            )  # fmt: skip
        deadline = time.monotonic() + seconds
        while not self._answers():
            if self.process.poll() is not None:
                raise ScratchError(f"the restored PostgreSQL ended: {self._last_words()}")
            if time.monotonic() > deadline:
                raise ScratchError(f"the restored PostgreSQL did not accept writes within {seconds:g} s: {self._last_words()}")
            time.sleep(0.1)  # between two looks; the deadline ends them

    def stop(self, seconds: float) -> None:
        """In order, as pg_upgrade needs it; the data stays."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGINT)  # fast shutdown
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise ScratchError(f"the restored PostgreSQL did not stop within {seconds:g} s: {self._last_words()}") from error
        self.process = None

    def _answers(self) -> bool:
        try:
            return self.server.ask("SELECT NOT pg_is_in_recovery();", 10).strip() == "t"
        except psql.PsqlError:
            return False

    def _last_words(self) -> str:
        lines = (self.home / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        # The probes of _answers are refused until the server has replayed everything.
        lines = [line for line in lines if "the database system is " not in line]
        telling = [line for line in lines if "FATAL" in line or "PANIC" in line or "ERROR" in line]
        return " ".join((telling or lines)[-2:])[-400:]

    def remove(self) -> None:
        """Stops the server, also one that a killed run left, and removes every file."""
        for pid in self._postmasters():
            os.kill(pid, signal.SIGQUIT)  # immediate shutdown: nothing of it is kept
        if self.process is not None:
            self.process.wait(30)
            self.process = None
        deadline = time.monotonic() + 30
        while any(Path("/proc", str(pid)).exists() for pid in self._postmasters()) and time.monotonic() < deadline:
            time.sleep(0.1)  # between two looks; the deadline ends them
        for directory in (self.home, self.sockets):
            shutil.rmtree(directory, ignore_errors=True)
            if directory.exists():
                raise ScratchError(f"{directory} could not be removed. Remove it: it holds the restored database")

    def _postmasters(self) -> list[int]:
        """The server of this directory, if it runs; its number may have been given to another program since."""
        try:
            pid = int((self.data / "postmaster.pid").read_text(encoding="utf-8").split()[0])
            command = Path("/proc", str(pid), "cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            return []
        return [pid] if str(self.data).encode() in command else []
