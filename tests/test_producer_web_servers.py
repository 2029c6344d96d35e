"""The producer's two web servers on one Unix socket, started by the role's script, and how trial, check and status ask."""

from __future__ import annotations

import http.server
import os
import shlex
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.grunnfjell.platform.plugins.modules import platform_status, supervisor_handover
from local_playbook import run_playbook

from lab.machine import REPOSITORY

ROLE = REPOSITORY / "roles/producer"
APP = """
def app(environ, start):
    named = environ['HTTP_HOST'] == 'jobs.example.org'  # as Django's ALLOWED_HOSTS
    start('200 OK' if named or environ['PATH_INFO'] == '/' else '400 Bad Request', [('Content-Length', '5')])
    return [environ['wsgi.url_scheme'].encode()]
"""
# Uvicorn needs no line of code to keep the contract of a named web server.
ASGI = """
async def app(scope, receive, send):
    if scope['type'] == 'websocket':
        await receive()
        await send({'type': 'websocket.accept'})
        text = (await receive())['text']
        await send({'type': 'websocket.send', 'text': f"{text} by {scope['scheme']}"})
        await send({'type': 'websocket.close'})
    elif scope['type'] == 'http':
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})
        await send({'type': 'http.response.body', 'body': scope['scheme'].encode()})
"""
UVICORN = ["uvicorn", "--fd", "0", "--forwarded-allow-ips", "*", "served:app"]
SECONDS = 30


def script(environment: Path, folder: Path, command: list[str] | None = None) -> Path:
    """The role's script with its default command, or another one."""
    engine = jinja2.Environment()
    engine.filters["quote"] = shlex.quote
    inputs = yaml.safe_load((ROLE / "defaults/main.yml").read_text()) | {"producer_wsgi_app": "served:app"}
    usual = [engine.from_string(word).render(inputs) for word in (*inputs["producer_command"], "--no-control-socket")]
    (folder / "run").write_text(f'#!/bin/sh\nPATH={environment}/bin:$PATH\nexec "$@"\n')
    (folder / "run").chmod(0o755)
    application = {"run": str(folder / "run"), "settings": "settings"}
    text = (ROLE / "templates/etc/supervisor/programs/producer.j2").read_text()
    (folder / "script").write_text(
        engine.from_string(text).render(
            producer_application=application, __producer_server={"command": command or usual, "workers": 2}
        )
    )
    (folder / "script").chmod(0o755)
    return folder / "script"


class WebServers:
    """As supervisord has them: it holds the socket that each takes as standard input."""

    def __init__(self, command: Path, started: str) -> None:
        self.folder, self.command, self.started = command.parent, command, started
        self.place = self.folder / "web.sock"
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(self.place))
        self.listening.listen()
        self.processes = [self.start(0), self.start(1)]

    def start(self, number: int) -> subprocess.Popen:
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(
                [self.command, str(number)],
                stdin=self.listening,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": str(self.folder)},
            )

    def stop(self, number: int) -> None:
        self.processes[number].terminate()
        self.processes[number].wait(SECONDS)

    def answer_soon(self) -> bool:
        """A server that has just started has up to SECONDS; its clients wait in the socket's queue."""
        end = time.monotonic() + SECONDS
        while not (answered := self.answers("/")) and time.monotonic() < end:
            pass  # each attempt waits for an answer
        return answered

    def answers(self, path: str, host: str = "127.0.0.1") -> bool:
        return supervisor_handover.answers(self.place, path, host)

    @property
    def both_started(self) -> bool:
        return self.log.count(self.started) >= 2

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def running(command: Path, started: str) -> Iterator[WebServers]:
    servers = WebServers(command, started)
    try:
        end = time.monotonic() + SECONDS
        while not servers.both_started and time.monotonic() < end:
            time.sleep(0.05)  # leaves the processor to the servers that start
        yield servers
    finally:
        for number in (0, 1):
            servers.stop(number)
        servers.listening.close()


@pytest.fixture
def web(environment: Path, tmp_path: Path) -> Iterator[WebServers]:
    (tmp_path / "served.py").write_text(APP)
    with running(script(environment, tmp_path), "Booting worker") as servers:
        yield servers


@pytest.fixture
def asgi(tmp_path: Path) -> Iterator[WebServers]:
    (tmp_path / "served.py").write_text(ASGI)
    with running(script(Path(sys.prefix), tmp_path, UVICORN), "Application startup complete") as servers:
        yield servers


def test_a_web_server_that_stops_leaves_the_socket_to_the_other(web: WebServers) -> None:
    """gunicorn removes the file of a Unix socket when it stops, unless systemd passed it. Then each listens there."""
    assert web.both_started, web.log
    web.stop(0)
    assert web.place.is_socket() and web.answers("/"), web.log
    web.processes[0] = web.start(0)
    web.stop(1)
    assert web.answer_soon(), web.log


def test_the_application_knows_that_its_client_uses_https_and_the_log_has_its_address(web: WebServers) -> None:
    connection = supervisor_handover.UnixConnection(web.place)
    connection.request("GET", "/", headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.9"})
    assert connection.getresponse().read() == b"https"
    connection.close()
    web.stop(0)
    web.stop(1)
    assert "192.0.2.9 - - [" in web.log and '"GET / HTTP/1.1" 200 5' in web.log, web.log


def test_an_asgi_server_that_stops_leaves_the_socket_to_the_other(asgi: WebServers) -> None:
    assert asgi.both_started, asgi.log
    asgi.stop(0)
    assert asgi.place.is_socket() and asgi.answers("/"), asgi.log
    asgi.processes[0] = asgi.start(0)
    asgi.stop(1)
    assert asgi.answer_soon(), asgi.log


def test_an_asgi_server_takes_websockets_and_knows_that_its_client_uses_https(asgi: WebServers) -> None:
    head = ["GET /ws/ HTTP/1.1", "Host: jobs.example.org", "Connection: upgrade", "Upgrade: websocket"]
    head += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "X-Forwarded-Proto: https"]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        client.connect(str(asgi.place))
        client.sendall("\r\n".join([*head, "", ""]).encode())
        answer = client.makefile("rb")
        assert answer.readline() == b"HTTP/1.1 101 Switching Protocols\r\n", asgi.log
        while answer.readline().strip():
            pass
        client.sendall(b"\x81\x84\0\0\0\0sent")  # a text of four bytes, masked by zeros
        assert answer.read(13) == b"\x81\x0bsent by wss"


def test_a_trial_asks_by_the_producers_own_name(web: WebServers) -> None:
    """An application that checks the Host header answers 400 to every other name, the address too."""
    assert web.answers("/strict", "jobs.example.org")
    assert not web.answers("/strict")
    assert not supervisor_handover.answers(web.folder / "nothing", "/")


class Strict(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" or self.headers["Host"] == "jobs.example.org" else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Of a server with a certificate that is its own authority, and its certificate."""
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=web1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:jobs.example.org"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", "key.pem", "-out", "certificate.pem"], cwd=folder, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Strict) as server:
        # A client's handshake is its thread's: one that never comes must not hold the server.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_address[1]}", str(folder / "certificate.pem")
        server.shutdown()


def test_status_trusts_only_a_producer_with_a_valid_certificate(address: tuple[str, str]) -> None:
    place, bundle = address
    assert platform_status.answers(f"https://{place}/", bundle, [])["ok"]
    answer = platform_status.answers(f"https://{place}/", "/etc/ssl/certs/ca-certificates.crt", [])
    assert not answer["ok"] and "certificate verify failed" in answer["error"]


def test_check_and_status_ask_by_the_producers_own_name(address: tuple[str, str], tmp_path: Path) -> None:
    place, bundle = address
    url = f"https://{place}/strict"
    assert platform_status.answers(url, bundle, ["jobs.example.org", "other.example.org"])["ok"]
    assert platform_status.answers(url, bundle, [])["error"] == "it answers 400"
    role = {"name": "grunnfjell.platform.producer", "tasks_from": "wait_healthy", "rolespec_validate": False}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role}]}
    inputs = {
        "producer_bind": place,
        "producer_health_path": "/strict",
        "producer_ca_file": bundle,
        "producer_wsgi_app": "web:app",
    }
    inputs |= {"producer_answer_timeout": 1, "producer_log_directory": str(tmp_path)}
    _, output = run_playbook(tmp_path, [play], {"web1": inputs | {"producer_names": ["jobs.example.org"]}})
    assert "did not answer 200" not in output and "Check that the web process publishes" in output, output
    _, output = run_playbook(tmp_path, [play], {"web1": inputs})
    assert f"{url} did not answer 200" in output, output
