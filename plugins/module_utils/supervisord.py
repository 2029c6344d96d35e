"""supervisord's XML-RPC interface over its socket."""

from __future__ import annotations

import http.client
import os
import socket
import time
import xmlrpc.client
from collections.abc import Callable
from typing import Any

SOCKET = "/run/supervisor.sock"
POLL_SECONDS = 0.2
# No call of the kit waits for a process, so a supervisord that needs longer is frozen.
ANSWER_SECONDS = 60.0


class UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self.path, self.timeout = path, timeout

    def make_connection(self, host: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(self.timeout)
        connection.sock.connect(self.path)
        return connection


def connect(path: str, timeout: float | None = None) -> Any:
    """supervisord's XML-RPC namespace, or None if its socket does not exist.  timeout: seconds for each answer."""
    if not os.path.exists(path):
        return None
    transport = UnixTransport(path, timeout or ANSWER_SECONDS)
    return xmlrpc.client.ServerProxy("http://localhost", transport=transport, allow_none=True).supervisor


def processes(supervisor: Any, groups: list[str]) -> list[dict[str, Any]]:
    return [process for process in supervisor.getAllProcessInfo() if process["group"] in groups]


def full_name(process: dict[str, Any]) -> str:
    return f"{process['group']}:{process['name']}"


def stopped(process: dict[str, Any]) -> bool:
    return not process["pid"]


def up(process: dict[str, Any]) -> bool:
    return process["statename"] == "RUNNING"


def failed(process: dict[str, Any]) -> bool:
    """It ended before it counted as started. supervisord tries again, but there is no need to wait."""
    return process["statename"] in ("BACKOFF", "EXITED", "FATAL")


def wait_until_stopped(supervisor: Any, groups: list[str]) -> None:
    # Bounded: supervisord kills each process after its stopwaitsecs.
    while not all(map(stopped, processes(supervisor, groups))):
        time.sleep(POLL_SECONDS)


def wait_until_up(look: Callable[[], list[dict[str, Any]]], seconds: float) -> list[dict[str, Any]]:
    """The processes that are not running: at once when one failed, else after the deadline; empty when all run."""
    deadline = time.monotonic() + seconds
    while True:
        if late := [process for process in look() if not up(process)]:
            if any(map(failed, late)) or time.monotonic() > deadline:
                return late
            time.sleep(POLL_SECONDS)
        else:
            return []
