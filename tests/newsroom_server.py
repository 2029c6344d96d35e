"""The web server of examples/newsroom on a port of this machine. The broker is in memory, or does not exist."""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.machine import REPOSITORY

APPLICATION = REPOSITORY / "examples" / "newsroom"


TOKEN = "a token of the tests"


LIMIT = 1024 * 1024


class Server:
    def __init__(self, port: int, data: Path) -> None:
        self.port = port
        self.data = data

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, http.client.HTTPMessage, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body=body, headers=headers, encode_chunked="Transfer-Encoding" in headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return (
            answer.status,
            answer.headers,
            json.loads(body) if answer.headers.get_content_type() == "application/json" else {"raw": body},
        )

    def upload(self, body: bytes = b"a video") -> str:
        status, headers, answer = self.ask("POST", "/videos", body)
        assert status == 202, answer
        return headers["Location"].rsplit("/", 1)[1]

    def stored(self) -> list[str]:
        return sorted(str(path.relative_to(self.data)) for path in self.data.rglob("*") if path.is_file())


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def serve(
    environment: Path, folder: Path, broker: str, port: int = 0, peers: tuple[int, ...] = (), workers: int = 1
) -> Iterator[Server]:
    """peers: the ports of the other producers. workers: web processes."""
    port = port or free_port()
    (folder / "grunnfjell_settings.py").write_text(
        f"broker_url = {broker!r}\nbroker_connection_timeout = 1\n"
        "broker_transport_options = {'max_retries': 1, 'interval_start': 0, 'interval_max': 0.2}\n"
        "task_publish_retry_policy = {'max_retries': 1, 'interval_start': 0, 'interval_max': 0.2}\n"
    )
    variables = {
        "PYTHONPATH": f"{APPLICATION}:{folder}",
        "CELERY_CONFIG_MODULE": "grunnfjell_settings",
        "NEWSROOM_TOKEN": TOKEN,
        "NEWSROOM_DATA_DIR": str(folder / "data"),
        "NEWSROOM_MAX_UPLOAD_BYTES": str(LIMIT),
        "NEWSROOM_INTERNAL_URL": f"http://127.0.0.1:{port}",
        "NEWSROOM_PEER_URLS": ",".join(f"http://127.0.0.1:{peer}" for peer in peers),
        "PGHOST": "127.0.0.1",
        "PGPORT": "1",
    }
    options = [f"--workers={workers}", "--threads=4", "--no-control-socket", "--access-logfile=-", f"--bind=127.0.0.1:{port}"]
    command = [environment / "bin/gunicorn", *options, "newsroom.web:app"]
    log = folder / "log"
    with log.open("a") as out:
        process = subprocess.Popen(command, env=os.environ | variables, stdout=out, stderr=out, cwd=folder)
    try:
        server = Server(port, folder / "data")
        wait_for(server, process, log)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def until(condition: Callable[[], object], what: object = "") -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)  # between two looks; the deadline ends them


def wait_for(server: Server, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            assert server.ask("GET", "/healthz")[0] == 200
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
