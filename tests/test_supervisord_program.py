"""The script that starts supervisord opens IPv6 sockets, and leaves all others to Debian's code."""

import runpy
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).resolve().parents[1] / "roles/supervisor/files/usr/local/lib/grunnfjell/supervisord"


@pytest.fixture
def parse(monkeypatch):
    """The socket parser of supervisord after the script has started; Debian's parser returns its arguments."""

    class InetStreamSocketConfig:
        def __init__(self, host, port, backlog=None):
            self.host, self.port, self.backlog = host, int(port), backlog

        def addr(self):
            return self.host, self.port

    class ServerOptions:
        def parse_fcgi_socket(self, sock, *rest):
            return "Debian", sock, rest

    names = {"datatypes": {"InetStreamSocketConfig": InetStreamSocketConfig}, "options": {"ServerOptions": ServerOptions}}
    for name, members in (names | {"supervisord": {"main": lambda: None}}).items():
        module = ModuleType(f"supervisor.{name}")
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "supervisor", ModuleType("supervisor"))
    with pytest.raises(SystemExit):
        runpy.run_path(str(PROGRAM))
    return ServerOptions().parse_fcgi_socket


def test_a_socket_in_brackets_listens_only_on_ipv6(parse):
    listening = parse("tcp://[::1]:0", None, None, None, 5)
    assert listening.backlog == 5
    with listening.create_and_bind() as opened:
        assert opened.family == socket.AF_INET6
        assert opened.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        assert opened.getsockname()[0] == "::1"


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:8000", "unix:///run/x.sock", "tcp://[x]:1", "tcp://fd00::1:8000"])
def test_every_other_socket_is_read_by_debian(parse, text):
    assert parse(text, 1, None, None, None) == ("Debian", text, (1, None, None, None))
