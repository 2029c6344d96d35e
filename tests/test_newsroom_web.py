"""The producer itself, as a running server: what it takes, what it refuses, what it hands out, and to whom.

It runs on its own lock in an environment of its own, which uv builds once in build/. The broker is in memory, or away.
"""

import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
APPLICATION = REPOSITORY / "examples" / "newsroom"
TOKEN = "a token of the tests"
LIMIT = 1024 * 1024
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Server:
    def __init__(self, port: int, data: Path) -> None:
        self.port = port
        self.data = data

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, http.client.HTTPMessage, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body=body, headers=headers, encode_chunked="Transfer-Encoding" in headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        return (
            answer.status,
            answer.headers,
            json.loads(said) if answer.headers.get_content_type() == "application/json" else {"raw": said},
        )

    def upload(self, body: bytes = b"a video") -> str:
        status, headers, said = self.ask("POST", "/videos", body)
        assert status == 202, said
        return headers["Location"].rsplit("/", 1)[1]

    def stored(self) -> list[str]:
        return sorted(str(path.relative_to(self.data)) for path in self.data.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def environment() -> Path:
    lock = APPLICATION / "requirements.txt"
    folder = REPOSITORY / "build" / f"newsroom-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (folder / "ready").exists():
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "-q", "-p", folder / "bin/python", "--require-hashes", "-r", lock], check=True)
        (folder / "ready").touch()
    return folder


def serve(environment: Path, folder: Path, broker: str) -> Iterator[Server]:
    (folder / "celeryconfig.py").write_text(
        f"broker_url = {broker!r}\nbroker_connection_timeout = 1\n"
        "broker_transport_options = {'max_retries': 1, 'interval_start': 0, 'interval_max': 0.2}\n"
        "task_publish_retry_policy = {'max_retries': 1, 'interval_start': 0, 'interval_max': 0.2}\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        "PYTHONPATH": f"{APPLICATION}:{folder}",
        "CELERY_CONFIG_MODULE": "celeryconfig",
        "NEWSROOM_TOKEN": TOKEN,
        "NEWSROOM_DATA_DIR": str(folder / "data"),
        "NEWSROOM_MAX_UPLOAD_BYTES": str(LIMIT),
        "NEWSROOM_INTERNAL_URL": f"http://127.0.0.1:{port}",
        "PGHOST": "127.0.0.1",
        "PGPORT": "1",
    }
    command = [environment / "bin/gunicorn", "--threads=4", "--no-control-socket", f"--bind=127.0.0.1:{port}", "newsroom.web:app"]
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=os.environ | variables, stdout=out, stderr=out, cwd=folder)
    try:
        server = Server(port, folder / "data")
        wait_for(server, process, log)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def wait_for(server: Server, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            assert server.ask("GET", "/healthz")[0] == 200
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def producer(environment, tmp_path_factory) -> Iterator[Server]:
    yield from serve(environment, tmp_path_factory.mktemp("producer"), "memory://")


@pytest.fixture(scope="module")
def cut_off(environment, tmp_path_factory) -> Iterator[Server]:
    yield from serve(environment, tmp_path_factory.mktemp("cut-off"), "pyamqp://127.0.0.1:1//")


def form(*parts: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    body = b"".join(
        b'--edge\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n' % (name.encode(), content)
        for name, content in parts
    )
    return body + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


def test_an_upload_is_stored_and_answered_with_an_absolute_location(producer):
    status, headers, said = producer.ask("POST", "/videos", b"a video")
    assert status == 202
    assert headers["Location"] == f"http://127.0.0.1:{producer.port}/videos/{said['key']}"
    assert urlsplit(headers["Location"]).scheme == "http"
    assert (producer.data / "videos" / said["key"] / "upload").read_bytes() == b"a video"


def test_a_form_with_one_file_is_taken(producer):
    body, headers = form(("file", b"a form's video"))
    status, _, said = producer.ask("POST", "/videos", body, **headers)
    assert status == 202, said
    assert (producer.data / "videos" / said["key"] / "upload").read_bytes() == b"a form's video"


def test_an_empty_upload_is_refused(producer):
    before = producer.stored()
    assert producer.ask("POST", "/videos", b"")[0] == 400
    assert producer.ask("POST", "/videos")[0] == 400
    body, headers = form(("file", b""))
    assert producer.ask("POST", "/videos", body, **headers)[0] == 400
    assert producer.stored() == before


def broken_off(port: int, head: str, body: bytes) -> int:
    """The status of an upload whose sender says nothing more after this."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"POST /videos HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n".encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").readline()
    return int(answer.split()[1]) if answer else 0


PART, FORM_HEADERS = form(("file", b"x" * 100))


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Length: 100", b"x" * 50),
        (f"Content-Type: {FORM_HEADERS['Content-Type']}\r\nContent-Length: {len(PART)}", PART[:-60]),
        ("Transfer-Encoding: chunked", b"64\r\n" + b"x" * 50),
        ("Transfer-Encoding: chunked", b"32\r\n" + b"x" * 50 + b"\r\n"),
    ],
    ids=["raw", "form", "in a chunk", "between chunks"],
)
def test_a_broken_off_upload_is_no_job(producer, head, body):
    """Review finding 26. Half a film was stored, confirmed and transcoded."""
    before = producer.stored()
    assert broken_off(producer.port, head, body) in (0, 400)
    assert producer.stored() == before
    assert broken_off(producer.port, "Content-Length: 50", b"x" * 50) == 202


@pytest.mark.parametrize("count", [0, 2])
def test_a_form_without_exactly_one_file_is_refused(producer, count):
    body, headers = form(*[(f"file{number}", b"x") for number in range(count)])
    status, _, said = producer.ask("POST", "/videos", body, **headers)
    assert (status, said["error"]) == (400, f"The form must hold one file; it holds {count}.")


def test_too_long_an_upload_is_refused_before_it_is_read(producer):
    connection = http.client.HTTPConnection("127.0.0.1", producer.port, timeout=5)
    connection.putrequest("POST", "/videos")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert str(LIMIT) in json.load(answer)["error"]


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 202), (LIMIT + 1, 413)])
def test_the_limit_holds_to_the_byte_whether_announced_or_not(producer, size, status):
    before = producer.stored()
    assert producer.ask("POST", "/videos", b"x" * size)[0] == status
    chunks = iter([b"x" * (size - 1), b"x"])
    assert producer.ask("POST", "/videos", chunks, **{"Transfer-Encoding": "chunked"})[0] == status
    assert status == 202 or producer.stored() == before


def test_without_a_confirm_there_is_no_202_and_no_upload_stays(cut_off):
    began = time.monotonic()
    status, headers, said = cut_off.ask("POST", "/videos", b"a video")
    assert status == 503, said
    assert headers["Retry-After"].isdecimal()
    assert time.monotonic() - began < 5
    assert cut_off.stored() == []


@pytest.mark.parametrize("key", ["x", "01a20d2b-3cd1-798c-885a-1eb797deb2e0/upload", "..%2f..%2fetc%2fpasswd", "%2e%2e"])
def test_what_was_never_accepted_is_not_found(producer, key):
    assert producer.ask("GET", f"/videos/{key}")[0] == 404


def test_a_status_that_cannot_be_told_is_no_404(producer):
    assert producer.ask("GET", f"/videos/{producer.upload()}")[0] == 503


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
def test_only_workers_get_an_upload_or_bring_a_result(producer, header):
    key = producer.upload()
    assert producer.ask("GET", f"/internal/videos/{key}/upload", **header)[0] == 401
    assert producer.ask("PUT", f"/internal/videos/{key}/video.mp4", b"x", **header)[0] == 401
    assert producer.ask("GET", f"/videos/{key}/video.mp4")[0] == 404


def test_a_worker_gets_the_upload(producer):
    assert producer.ask("GET", f"/internal/videos/{producer.upload(b'bytes')}/upload", **BEARER)[2] == {"raw": b"bytes"}


def test_a_result_is_kept_once_and_served(producer):
    key = producer.upload()
    path = f"/internal/videos/{key}/video.mp4"
    assert producer.ask("PUT", path, b"first", **BEARER)[::2] == (201, {"bytes": 5})
    assert producer.ask("PUT", path, b"the second", **BEARER)[::2] == (200, {"bytes": 5})
    status, headers, said = producer.ask("GET", f"/videos/{key}/video.mp4")
    assert (status, headers["Content-Type"], said) == (200, "video/mp4", {"raw": b"first"})
    assert producer.ask("GET", f"/videos/{key}/video.mp4", Range="bytes=1-2")[::2] == (206, {"raw": b"ir"})


@pytest.mark.parametrize("name", ["upload", "evil.sh", "..%2fvideo.mp4", "video.mp4%00"])
def test_a_result_has_one_of_two_names(producer, name):
    key = producer.upload()
    before = producer.stored()
    assert producer.ask("PUT", f"/internal/videos/{key}/{name}", b"x", **BEARER)[0] in (404, 405)
    assert producer.stored() == before


def test_a_result_of_no_job_is_not_taken(producer):
    before = producer.stored()
    assert producer.ask("PUT", "/internal/videos/01a20d2b-3cd1-798c-885a-1eb797deb2e0/video.mp4", b"x", **BEARER)[0] == 404
    assert producer.stored() == before


def test_a_result_is_bounded(producer):
    key = producer.upload()
    assert producer.ask("PUT", f"/internal/videos/{key}/video.mp4", b"x" * (4 * LIMIT + 1), **BEARER)[0] == 413


# The task itself, on its own lock, with everything around it taken away.
OUT_OF_MEMORY = """
import json, sys
from newsroom import media, results, tasks
from newsroom.tasks import transcode
told = []
def work(*_):
    raise media.OutOfMemory("no memory")
def retry(**how):
    told.append(["again", how["headers"]])
    return RuntimeError("again")
tasks.work, tasks.deliveries = work, lambda task: 0
results.start, results.fail = lambda key: True, lambda key, why: told.append(["failed", why])
transcode.retry = retry
for headers in (None, {tasks.OUT_OF_MEMORY: 1}):
    transcode.push_request(headers=headers, retries=0)
    try:
        transcode.run("key", "url")
    except RuntimeError:
        pass
    transcode.pop_request()
print(json.dumps(told))
"""


def test_a_video_for_which_memory_does_not_suffice_twice_has_failed_with_its_reason(environment, tmp_path):
    """Review finding 28. It came back twenty times, and took a worker's memory each time."""
    (tmp_path / "celeryconfig.py").write_text("broker_url = 'memory://'\n")
    variables = {"PYTHONPATH": f"{APPLICATION}:{tmp_path}", "CELERY_CONFIG_MODULE": "celeryconfig", "NEWSROOM_TOKEN": TOKEN}
    command = [environment / "bin/python", "-c", OUT_OF_MEMORY]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        ["again", {"newsroom_out_of_memory": 1}],
        ["failed", "The video needs more memory than a worker has."],
    ]
