"""A stand-in for supervisord: a real XML-RPC server with real processes, that fails at the call that a test names."""

from __future__ import annotations

import contextlib
import os
import signal
import socketserver
import subprocess
import threading
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler

from ansible_collections.grunnfjell.platform.plugins.modules.supervisor_programs import sections

FAULT = xmlrpc.client.Fault(30, "FAILED: by the test")


class Handler(SimpleXMLRPCRequestHandler):
    disable_nagle_algorithm = False  # TCP only

    def do_POST(self) -> None:
        with contextlib.suppress(SystemExit):
            super().do_POST()


class Server(socketserver.ThreadingUnixStreamServer, SimpleXMLRPCDispatcher):
    daemon_threads = True
    logRequests = False

    def __init__(self, path: str) -> None:
        socketserver.ThreadingUnixStreamServer.__init__(self, path, Handler)
        SimpleXMLRPCDispatcher.__init__(self, allow_none=True)

    def _marshaled_dispatch(self, *arguments: Any, **options: Any) -> bytes:
        answer = super()._marshaled_dispatch(*arguments, **options)
        if self.instance.dead:
            raise SystemExit  # the connection is closed without an answer
        return answer


class Supervisord:
    """Keeps the programs of one configuration file. A program's command is started as `COMMAND NUMBER`.

    fails_at: the call, counted from 0, that answers with a fault; or, with `dies`, at which supervisord and its programs end.
    """

    def __init__(self, home: Path) -> None:
        self.socket, self.file = home / "supervisor.sock", home / "programs.conf"
        self.loaded: dict[str, dict[str, str]] = {}
        self.wanted: dict[str, dict[str, str]] = {}
        self.running: dict[str, subprocess.Popen | None] = {}
        self.calls: list[str] = []
        self.fails_at: int | None = None
        self.dies = False
        # Programs whose processes end again at once.
        self.broken: set[str] = set()
        self.server: Server | None = None
        self.dead = False

    def start(self) -> None:
        """As after a boot: what the file declares is loaded and started."""
        self.dead = False
        self.server = Server(str(self.socket))
        self.server.register_instance(self)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.loaded = {}
        self.wanted = sections(self.file.read_text()) if self.file.exists() else {}
        for name in self.wanted:
            self.addProcessGroup(name)

    def stop(self) -> None:
        for name in list(self.running):
            self.end(name)
        self.running = {}
        if server := self.server:
            self.server = None
            server.shutdown()
            server.server_close()
            self.socket.unlink(missing_ok=True)

    def end(self, name: str) -> None:
        if process := self.running.get(name):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.running[name] = None

    @property
    def programs(self) -> set[str]:
        """Names of the programs that run."""
        return {name.partition(":")[0] for name, process in self.running.items() if process}

    # What the modules call.

    def _dispatch(self, method: str, arguments: tuple[Any, ...]) -> Any:
        self.calls.append(method.removeprefix("supervisor."))
        if self.fails_at == len(self.calls) - 1:
            self.fails_at = None
            if not self.dies:
                raise FAULT
            self.dead = True
            self.stop()
            return None
        return getattr(self, self.calls[-1])(*arguments)

    def getState(self) -> dict[str, str]:
        return {"statename": "RUNNING"}

    def reloadConfig(self) -> list[list[list[str]]]:
        self.wanted = sections(self.file.read_text()) if self.file.exists() else {}
        added = [name for name in self.wanted if name not in self.loaded]
        changed = [name for name in self.wanted if self.loaded.get(name, self.wanted[name]) != self.wanted[name]]
        removed = [name for name in self.loaded if name not in self.wanted]
        return [[added, changed, removed]]

    def processes_of(self, group: str) -> list[str]:
        return [name for name in self.running if name.partition(":")[0] == group]

    def addProcessGroup(self, group: str) -> bool:
        self.loaded[group] = self.wanted[group]
        for number in range(int(self.loaded[group].get("numprocs", 1))):
            self.startProcess(f"{group}:{group}_{number}", False)
        return True

    def stopProcessGroup(self, group: str, wait: bool) -> bool:
        for name in self.processes_of(group):
            self.end(name)
        return True

    def removeProcessGroup(self, group: str) -> bool:
        if any(self.running[name] for name in self.processes_of(group)):
            raise xmlrpc.client.Fault(91, "STILL_RUNNING")
        del self.loaded[group]
        for name in self.processes_of(group):
            del self.running[name]
        return True

    def startProcess(self, name: str, wait: bool) -> bool:
        group = name.partition(":")[0]
        self.running[name] = None
        if name not in self.broken:
            number = name.rpartition("_")[2]
            process = subprocess.Popen([self.loaded[group]["command"], number], start_new_session=True)
            while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
                time.sleep(0.005)  # until its script has become what it runs
            self.running[name] = process
        return True

    def stopProcess(self, name: str, wait: bool) -> bool:
        self.end(name)
        return True

    def getProcessInfo(self, full_name: str) -> dict[str, Any]:
        group, _, name = full_name.partition(":")
        process, broken = self.running[full_name], full_name in self.broken
        state = "RUNNING" if process else "FATAL" if broken else "STOPPED"
        described = {"description": "", "stderr_logfile": ""}
        return {"group": group, "name": name, "pid": process.pid if process else 0, "statename": state, **described}

    def getAllProcessInfo(self) -> list[dict[str, Any]]:
        return [self.getProcessInfo(name) for name in self.running]


@contextlib.contextmanager
def supervisord(home: Path, text: str = "") -> Iterator[Supervisord]:
    fake = Supervisord(home)
    fake.file.write_text(text)
    fake.start()
    try:
        yield fake
    finally:
        fake.stop()
