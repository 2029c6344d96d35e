"""supervisord's XML-RPC interface over its own Unix socket."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from typing import Any

TIMEOUT_S = 3.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self.path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _Connection(self.path)


def supervisor(path: str) -> Any:
    """The interface ``supervisor``, e.g. ``supervisor(path).getAllProcessInfo()``."""
    return xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(path)).supervisor
