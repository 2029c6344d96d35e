"""The clients of the drill, against small servers of this test instead of a fleet."""

import itertools
import json
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lab.demo import trust
from lab.demo.fleet import Host
from lab.drill import load, rows
from lab.drill.ledger import Job, Ledger


def test_the_rate_has_a_maximum_and_lost_time_is_not_caught_up():
    now = [0.0]
    waits = load.waits(10.0, lambda: now[0])
    assert [round(next(waits), 6) for _ in range(3)] == [0.1, 0.2, 0.3]
    now[0] = 60.0
    assert next(waits) == 0.0
    assert round(next(waits), 6) == 0.1


@cache
def identity() -> ssl.SSLContext:
    """A TLS identity that the clients of the lab trust."""
    with tempfile.TemporaryDirectory() as folder:
        names = ["-subj", "/CN=web1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        subprocess.run([*command, *names], cwd=folder, check=True, capture_output=True)
        trust.believe(Path(folder, "certificate.pem").read_text())
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(Path(folder, "certificate.pem"), Path(folder, "key.pem"))
    return context


@contextmanager
def producer(name: str, *statuses: int) -> Iterator[tuple[Host, list[dict]]]:
    """Answers with these statuses in turn and repeats the last; 0 closes the connection without an answer."""
    requests: list[dict] = []
    answers = itertools.chain(statuses, itertools.repeat(statuses[-1]))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if status := next(answers):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = identity().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Host(name, ("producers",), "127.0.0.1", "root", "", "ledger", f"127.0.0.1:{server.server_port}", "", ""), requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("answer", [503, 500, 0])
def test_a_job_that_is_not_accepted_goes_to_the_next_producer_with_the_same_key(answer, monkeypatch):
    monkeypatch.setattr(load, "AGAIN_S", 0.0)
    ledger, job = Ledger(), Job(7, 0.5)
    with producer("web1", answer) as (first, at_first), producer("web2", 202) as (second, at_second):
        load.send(job, [first, second], ledger)
    assert at_first == at_second == [{"key": job.key, "number": 7, "seconds": 0.5, "poison": False}]
    assert [(accepted.job, accepted.producer, accepted.posts) for accepted in ledger.accepted] == [(job, "web2", 2)]
    assert len(ledger.refusals) == 1 and not ledger.given_up
    assert rows.unavailable_share(ledger.answers) == (0.5 if answer == 503 else 0.0)


def test_a_job_that_no_producer_accepts_is_given_up_and_not_counted_as_accepted(monkeypatch):
    monkeypatch.setattr(load, "AGAIN_S", 0.0)
    monkeypatch.setattr(load, "PERSISTENCE_S", 0.05)
    ledger, job = Ledger(), Job(7, 0.5)
    with producer("web1", 503) as (only, _):
        load.send(job, [only], ledger)
    assert ledger.given_up == [job] and not ledger.accepted


def test_clients_number_their_jobs_and_stop_with_their_block():
    ledger, numbers = Ledger(), itertools.count(1)
    with producer("web1", 202) as (only, requests), load.Clients([only], 200.0, ledger, numbers, seed=1):
        end = time.monotonic() + 30
        while len(ledger.accepted) < 20 and time.monotonic() < end:
            time.sleep(0.01)  # between two looks; the deadline ends them
    assert sorted(accepted.job.number for accepted in ledger.accepted)[:20] == list(range(1, 21))
    assert len({request["key"] for request in requests}) == len(requests) == len(ledger.accepted)


def test_a_client_that_dies_is_recorded(monkeypatch):
    """Review finding H6: the thread ended silently, and the row went on with fewer clients."""

    def post(*_: object) -> int:
        raise ValueError("unforeseen")

    monkeypatch.setattr(load, "post", post)
    ledger = Ledger()
    with load.Clients([Host("web1", (), "", "", "", "", "", "", "")], 1000.0, ledger, itertools.count(1), seed=1):
        end = time.monotonic() + 30
        while len(ledger.deaths) < load.CLIENTS and time.monotonic() < end:
            time.sleep(0.01)  # between two looks; the deadline ends them
    assert ledger.deaths == ["ValueError: unforeseen"] * load.CLIENTS
