"""gunicorn with the kit's TLS: it serves a renewed certificate on the next connection, and only modern TLS."""

import http.client
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.modules import platform_status, supervisor_handover
from local_playbook import run_playbook

from lab.machine import REPOSITORY

CONFIGURATION = REPOSITORY / "roles/application/files/etc/application"
APP = """
def app(environ, start):
    named = environ['HTTP_HOST'] == 'jobs.example.org'  # as Django's ALLOWED_HOSTS
    start('200 OK' if named or environ['PATH_INFO'] == '/' else '400 Bad Request', [('Content-Length', '5')])
    return [environ['wsgi.url_scheme'].encode()]
"""


def issue(directory: Path) -> str:
    """A certificate that is its own authority; returns its serial number."""
    directory.mkdir()
    names = ["-subj", "/CN=web1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:jobs.example.org"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", "key.pem", "-out", "certificate.pem"], cwd=directory, check=True, capture_output=True)
    shown = ["openssl", "x509", "-noout", "-serial", "-in", "certificate.pem"]
    return subprocess.run(shown, cwd=directory, check=True, capture_output=True, text=True).stdout.strip().partition("=")[2]


@dataclass
class Server:
    port: int
    folder: Path
    serials: list[str]

    def present(self, name: str) -> None:
        new = self.folder / "new"
        new.symlink_to(name)
        new.replace(self.folder / "identity")

    def ask(self) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=self.folder / "bundle.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
        try:
            connection.connect()
            serial = connection.sock.getpeercert()["serialNumber"]
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert answer.read() == b"https"
            return answer.status, serial
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tls")
    serials = [issue(folder / name) for name in ("first", "second")]
    (folder / "bundle.pem").write_text("".join((folder / name / "certificate.pem").read_text() for name in ("first", "second")))
    (folder / "identity").symlink_to("first")
    (folder / "served.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        tls = ["--config=python:grunnfjell_tls", "--certfile=identity/certificate.pem", "--keyfile=identity/key.pem"]
        command = [environment / "bin/gunicorn", "--worker-class=gthread", "--threads=4", "--bind=fd://0", "--workers=2"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*command, "--no-control-socket", *tls, "served:app"],
                stdin=listening,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=os.environ | {"PYTHONPATH": f"{CONFIGURATION}:{folder}"},
            )
        try:
            started = Server(listening.getsockname()[1], folder, serials)
            end = time.monotonic() + 30
            while True:
                try:
                    started.ask()
                    break
                except OSError:
                    assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
                    time.sleep(0.1)  # between two looks; the deadline ends them
            yield started
        finally:
            process.terminate()
            process.wait()


def test_a_renewed_certificate_is_served_on_the_next_connection_and_no_request_fails(server: Server) -> None:
    answers: list[tuple[int, str]] = []
    over = threading.Event()

    def client() -> None:
        while not over.is_set():
            answers.append(server.ask())

    clients = [threading.Thread(target=client) for _ in range(2)]
    for thread in clients:
        thread.start()
    try:
        for name, serial in (("second", server.serials[1]), ("first", server.serials[0])):
            # Both clients are connecting before the certificate changes.
            enough, end = len(answers) + 4, time.monotonic() + 10
            while len(answers) < enough and time.monotonic() < end:
                time.sleep(0.01)  # between two looks; the deadline ends them
            server.present(name)
            assert server.ask() == (200, serial)
    finally:
        over.set()
        for thread in clients:
            thread.join()
    assert {status for status, _ in answers} == {200}
    assert {serial for _, serial in answers} == set(server.serials)


def test_after_an_unreadable_certificate_the_previous_one_is_still_served(server: Server) -> None:
    server.ask()
    (server.folder / "broken").mkdir()
    (server.folder / "broken/certificate.pem").write_text("half of it")
    server.present("broken")
    try:
        assert server.ask() == (200, server.serials[0])
    finally:
        server.present("first")


def test_a_new_web_server_is_verified_before_clients_reach_it(server: Server) -> None:
    bundle, other = str(server.folder / "bundle.pem"), str(server.folder / "second/certificate.pem")
    assert supervisor_handover.answers(server.port, "/", bundle, "127.0.0.1")
    assert not supervisor_handover.answers(server.port, "/", bundle, "10.0.0.4"), "another name"
    assert not supervisor_handover.answers(server.port, "/", other, "127.0.0.1"), "another authority"
    assert not supervisor_handover.answers(server.port, "/"), "plain HTTP"
    assert not supervisor_handover.answers(server.port, "/", "/nonexistent", "127.0.0.1")


def test_status_trusts_only_a_producer_with_a_valid_certificate(server: Server) -> None:
    url = f"https://127.0.0.1:{server.port}/"
    assert platform_status.answers(url, str(server.folder / "bundle.pem"), [])["ok"]
    answer = platform_status.answers(url, str(server.folder / "second/certificate.pem"), [])
    assert not answer["ok"] and "certificate verify failed" in answer["error"]


def test_plain_http_gets_no_answer_from_the_application(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", "/", b"a film")
        assert connection.getresponse().status == 400
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    assert server.ask()[0] == 200


@pytest.mark.parametrize(
    ("version", "ciphers"),
    [(ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"), (ssl.TLSVersion.TLSv1_2, "AES128-SHA:AES256-GCM-SHA384")],
)
def test_old_versions_and_weak_ciphers_are_refused(server: Server, version: ssl.TLSVersion, ciphers: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(ciphers)
    with pytest.warns(DeprecationWarning) if version < ssl.TLSVersion.TLSv1_2 else threading.Lock():
        context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain, pytest.raises(OSError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_trial_check_and_status_ask_by_the_producers_own_name(server: Server, tmp_path: Path) -> None:
    """An application that checks the Host header answers 400 to every other name, the address too."""
    bundle, address = str(server.folder / "bundle.pem"), f"127.0.0.1:{server.port}"
    assert supervisor_handover.answers(server.port, "/strict", bundle, "jobs.example.org")
    assert not supervisor_handover.answers(server.port, "/strict", bundle, "127.0.0.1")
    url = f"https://{address}/strict"
    assert platform_status.answers(url, bundle, ["jobs.example.org", "other.example.org"])["ok"]
    assert platform_status.answers(url, bundle, [])["error"] == "it answers 400"
    role = {"name": "grunnfjell.platform.producer", "tasks_from": "wait_healthy", "rolespec_validate": False}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role}]}
    inputs = {"producer_bind": address, "producer_health_path": "/strict", "producer_ca_file": bundle}
    inputs |= {"producer_answer_timeout": 1, "producer_log_directory": str(tmp_path)}
    _, output = run_playbook(tmp_path, [play], {"web1": inputs | {"producer_names": ["jobs.example.org"]}})
    assert "did not answer 200" not in output and "Check that the web process publishes" in output, output
    _, output = run_playbook(tmp_path, [play], {"web1": inputs})
    assert f"{url} did not answer 200" in output, output
