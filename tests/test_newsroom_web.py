"""The producer as a running server: what it accepts, what it refuses, and what it serves to whom."""

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from newsroom_server import APPLICATION, LIMIT, TOKEN, Server, serve

BEARER = {"Authorization": f"Bearer {TOKEN}"}


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
    status, headers, answer = producer.ask("POST", "/videos", b"a video")
    assert status == 202
    assert headers["Location"] == f"http://127.0.0.1:{producer.port}/videos/{answer['key']}"
    assert urlsplit(headers["Location"]).scheme == "http"
    assert (producer.data / "videos" / answer["key"] / "upload").read_bytes() == b"a video"


def test_a_form_with_one_file_is_accepted(producer):
    body, headers = form(("file", b"a form's video"))
    status, _, answer = producer.ask("POST", "/videos", body, **headers)
    assert status == 202, answer
    assert (producer.data / "videos" / answer["key"] / "upload").read_bytes() == b"a form's video"


def test_an_empty_upload_is_refused(producer):
    before = producer.stored()
    assert producer.ask("POST", "/videos", b"")[0] == 400
    assert producer.ask("POST", "/videos")[0] == 400
    body, headers = form(("file", b""))
    assert producer.ask("POST", "/videos", body, **headers)[0] == 400
    assert producer.stored() == before


def status_of_part(port: int, head: str, body: bytes) -> int:
    """The status of an upload whose sender stops after this."""
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
def test_an_interrupted_upload_is_not_a_job(producer, head, body):
    """Review finding 26. Half a film was stored, confirmed and transcoded."""
    before = producer.stored()
    assert status_of_part(producer.port, head, body) in (0, 400)
    assert producer.stored() == before
    assert status_of_part(producer.port, "Content-Length: 50", b"x" * 50) == 202


@pytest.mark.parametrize("count", [0, 2])
def test_a_form_without_exactly_one_file_is_refused(producer, count):
    body, headers = form(*[(f"file{number}", b"x") for number in range(count)])
    status, _, answer = producer.ask("POST", "/videos", body, **headers)
    assert (status, answer["error"]) == (400, f"The form must hold one file; it holds {count}.")


def test_an_upload_that_is_too_long_is_refused_before_it_is_read(producer):
    connection = http.client.HTTPConnection("127.0.0.1", producer.port, timeout=5)
    connection.putrequest("POST", "/videos")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert str(LIMIT) in json.load(answer)["error"]


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 202), (LIMIT + 1, 413)])
def test_the_limit_holds_to_the_byte_with_and_without_a_declared_length(producer, size, status):
    before = producer.stored()
    assert producer.ask("POST", "/videos", b"x" * size)[0] == status
    chunks = iter([b"x" * (size - 1), b"x"])
    assert producer.ask("POST", "/videos", chunks, **{"Transfer-Encoding": "chunked"})[0] == status
    assert status == 202 or producer.stored() == before


def test_without_a_confirm_there_is_no_202_and_no_upload_is_kept(cut_off):
    began = time.monotonic()
    status, headers, answer = cut_off.ask("POST", "/videos", b"a video")
    assert status == 503, answer
    assert headers["Retry-After"].isdecimal()
    assert time.monotonic() - began < 5
    assert cut_off.stored() == []


@pytest.mark.parametrize("key", ["x", "01a20d2b-3cd1-798c-885a-1eb797deb2e0/upload", "..%2f..%2fetc%2fpasswd", "%2e%2e"])
def test_a_job_that_was_never_accepted_is_not_found(producer, key):
    assert producer.ask("GET", f"/videos/{key}")[0] == 404


def test_an_unknown_status_is_not_a_404(producer):
    assert producer.ask("GET", f"/videos/{producer.upload()}")[0] == 503


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
def test_only_workers_may_read_an_upload_or_store_a_result(producer, header):
    key = producer.upload()
    assert producer.ask("GET", f"/internal/videos/{key}/upload", **header)[0] == 401
    assert producer.ask("PUT", f"/internal/videos/{key}/video.mp4", b"x", **header)[0] == 401
    assert producer.ask("GET", f"/videos/{key}/video.mp4")[0] == 404


def test_a_worker_may_read_the_upload(producer):
    assert producer.ask("GET", f"/internal/videos/{producer.upload(b'bytes')}/upload", **BEARER)[2] == {"raw": b"bytes"}


def test_a_result_is_stored_once_and_served(producer):
    key = producer.upload()
    path = f"/internal/videos/{key}/video.mp4"
    assert producer.ask("PUT", path, b"first", **BEARER)[::2] == (201, {"bytes": 5})
    assert producer.ask("PUT", path, b"the second", **BEARER)[::2] == (200, {"bytes": 5})
    status, headers, answer = producer.ask("GET", f"/videos/{key}/video.mp4")
    assert (status, headers["Content-Type"], answer) == (200, "video/mp4", {"raw": b"first"})
    assert producer.ask("GET", f"/videos/{key}/video.mp4", Range="bytes=1-2")[::2] == (206, {"raw": b"ir"})


@pytest.mark.parametrize("name", ["upload", "evil.sh", "..%2fvideo.mp4", "video.mp4%00"])
def test_a_result_has_one_of_two_names(producer, name):
    key = producer.upload()
    before = producer.stored()
    assert producer.ask("PUT", f"/internal/videos/{key}/{name}", b"x", **BEARER)[0] in (404, 405)
    assert producer.stored() == before


def test_a_result_of_an_unknown_job_is_refused(producer):
    before = producer.stored()
    assert producer.ask("PUT", "/internal/videos/01a20d2b-3cd1-798c-885a-1eb797deb2e0/video.mp4", b"x", **BEARER)[0] == 404
    assert producer.stored() == before


def test_a_result_has_a_maximum_size(producer):
    key = producer.upload()
    assert producer.ask("PUT", f"/internal/videos/{key}/video.mp4", b"x" * (4 * LIMIT + 1), **BEARER)[0] == 413


# The task in its locked environment, without the broker, the database and ffmpeg.
OUT_OF_MEMORY = """
import json, sys
from newsroom import media, results, tasks
from newsroom.tasks import transcode
calls = []
def work(*_):
    raise media.OutOfMemory("no memory")
def retry(**how):
    calls.append(["again", how["headers"]])
    return RuntimeError("again")
tasks.work, tasks.deliveries = work, lambda task: 0
results.start, results.fail = lambda key: True, lambda key, why: calls.append(["failed", why])
transcode.retry = retry
for headers in (None, {tasks.OUT_OF_MEMORY: 1}):
    transcode.push_request(headers=headers, retries=0)
    try:
        transcode.run("key", "url")
    except RuntimeError:
        pass
    transcode.pop_request()
print(json.dumps(calls))
"""


def test_a_video_that_runs_out_of_memory_twice_fails_with_the_reason(environment, tmp_path):
    """Review finding 28. It was delivered twenty times, and used up the memory of a worker each time."""
    (tmp_path / "grunnfjell_settings.py").write_text("broker_url = 'memory://'\n")
    variables = {
        "PYTHONPATH": f"{APPLICATION}:{tmp_path}",
        "CELERY_CONFIG_MODULE": "grunnfjell_settings",
        "NEWSROOM_TOKEN": TOKEN,
    }
    command = [environment / "bin/python", "-c", OUT_OF_MEMORY]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        ["again", {"newsroom_out_of_memory": 1}],
        ["failed", "The video needs more memory than a worker has."],
    ]
