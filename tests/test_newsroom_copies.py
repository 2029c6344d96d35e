"""newsroom's second copy: two producers on this machine, each with a disk, and the worker's functions against them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from newsroom import files, probe
from newsroom_server import APPLICATION, TOKEN, Server, free_port, serve, until

from lab.machine import REPOSITORY

BEARER = {"Authorization": f"Bearer {TOKEN}"}
KEY = "01a20d2b-3cd1-798c-885a-1eb797deb2e0"
CUT_OFF = "pyamqp://127.0.0.1:1//"

Start = Callable[..., AbstractContextManager[Server]]


def path_of(server: Server, key: str, name: str = files.UPLOAD) -> Path:
    return server.data / "videos" / key / name


def debts(server: Server) -> list[str]:
    return sorted(path.name for path in (server.data / "owed").glob("*"))


@pytest.fixture(scope="module")
def pair(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    start, ports = contextmanager(serve), [free_port(), free_port()]
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    with (
        start(environment, folders[0], "memory://", ports[0], (ports[1],), workers=2) as one,
        start(environment, folders[1], "memory://", ports[1], (ports[0],), workers=2) as two,
    ):
        yield [one, two]


@pytest.fixture
def start(environment: Path, tmp_path: Path) -> Start:
    """Starts a producer by its port; its disk stays from one start to the next."""

    def run(port: int, *peers: int, broker: str = "memory://") -> AbstractContextManager[Server]:
        folder = tmp_path / str(port)
        folder.mkdir(exist_ok=True)
        return contextmanager(serve)(environment, folder, broker, port, peers)

    return run


def run_python(environment: Path, folder: Path, peers: list[int], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in the application's environment, as on a worker or a producer."""
    (folder / "grunnfjell_settings.py").write_text("broker_url = 'memory://'\n")
    variables = {
        "PYTHONPATH": f"{APPLICATION}:{folder}",
        "CELERY_CONFIG_MODULE": "grunnfjell_settings",
        "NEWSROOM_TOKEN": TOKEN,
        "NEWSROOM_DATA_DIR": str(folder / "data"),
        "NEWSROOM_PEER_URLS": ",".join(f"http://127.0.0.1:{port}" for port in peers),
    }
    command = [environment / "bin/python", *arguments]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)


def test_an_upload_is_on_two_disks_before_it_is_accepted(pair):
    one, two = pair
    key = one.upload(b"a video")
    assert path_of(one, key).read_bytes() == path_of(two, key).read_bytes() == b"a video"
    assert debts(one) == debts(two) == []


def test_a_result_that_one_producer_gets_is_on_both(pair):
    one, two = pair
    key = two.upload()
    assert two.ask("PUT", f"/internal/videos/{key}/video.mp4", b"the result", **BEARER)[0] == 201
    assert path_of(one, key, files.VIDEO).read_bytes() == path_of(two, key, files.VIDEO).read_bytes() == b"the result"
    assert one.ask("GET", f"/videos/{key}/video.mp4")[2] == {"raw": b"the result"}


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
def test_only_the_fleet_may_store_or_remove_a_copy(pair, header):
    one, _ = pair
    key = one.upload(b"a video")
    before = one.stored()
    for method, path in (("PUT", f"{KEY}/upload"), ("PUT", f"{key}/video.mp4"), ("DELETE", key)):
        assert one.ask(method, f"/internal/copies/{path}", b"x", **header)[0] == 401
    assert one.ask("GET", f"/internal/videos/{key}/video.mp4", **header)[0] == 401
    assert one.stored() == before


@pytest.mark.parametrize("path", [f"{KEY}/evil.sh", f"{KEY}/..%2fupload", "x/upload", "%2e%2e/upload"])
def test_a_copy_has_a_key_and_one_of_three_names(pair, path):
    one, _ = pair
    before = one.stored()
    assert one.ask("PUT", f"/internal/copies/{path}", b"x", **BEARER)[0] in (404, 405)
    assert one.ask("DELETE", "/internal/copies/videos", **BEARER)[0] == 404
    assert one.stored() == before


def test_a_copy_overwrites_nothing(pair):
    """A producer that was away for a day hands over what it owes, after the job is done here."""
    one, _ = pair
    key = one.upload(b"a video")
    one.ask("PUT", f"/internal/videos/{key}/video.mp4", b"the result", **BEARER)
    for name in (files.UPLOAD, files.VIDEO):
        assert one.ask("PUT", f"/internal/copies/{key}/{name}", b"something else", **BEARER)[0] == 200
    assert path_of(one, key).read_bytes() == b"a video"
    assert path_of(one, key, files.VIDEO).read_bytes() == b"the result"


def test_what_a_peer_missed_is_handed_over_once_it_answers(start):
    first, second = free_port(), free_port()
    with start(first, second) as one:
        key = one.upload(b"a video")
        assert debts(one) == [f"{key}.upload"]
        assert one.ask("PUT", f"/internal/videos/{key}/poster.jpg", b"the poster", **BEARER)[0] == 201
        assert debts(one) == [f"{key}.poster.jpg", f"{key}.upload"]
    # A restart of the producer that owes does not lose the debts.
    with start(first, second) as one, start(second, first) as two:
        until(lambda: debts(one) == [], debts(one))
        assert path_of(two, key).read_bytes() == b"a video"
        assert path_of(two, key, files.POSTER).read_bytes() == b"the poster"
        # A file that was removed in the meantime is owed no longer.
        (one.data / "owed" / f"{KEY}.upload").touch()
        until(lambda: debts(one) == [], debts(one))


def test_an_upload_that_was_not_confirmed_is_on_neither_disk(start):
    first, second = free_port(), free_port()
    with start(second, first) as two, start(first, second, broker=CUT_OFF) as one:
        began = time.monotonic()
        assert one.ask("POST", "/videos", b"a video")[0] == 503
        assert time.monotonic() - began < 5
        until(lambda: one.stored() == two.stored() == [], [one.stored(), two.stored()])
        assert "PUT /internal/copies/" in (two.data.parent / "log").read_text(), "it was never copied"
    with start(first, second, broker=CUT_OFF) as one:
        assert one.ask("POST", "/videos", b"a video")[0] == 503
        (debt,) = debts(one)
        key = debt.removesuffix(".withdrawn")
        # As if the copy had arrived and its answer had been lost.
        path_of(two, key).parent.mkdir(parents=True)
        path_of(two, key).write_bytes(b"a video")
        with start(second, first):
            until(lambda: one.stored() == two.stored() == [], [one.stored(), two.stored()])


def test_a_peer_that_hangs_does_not_keep_the_client_waiting(start):
    with socket.create_server(("127.0.0.1", 0)) as hanging, start(free_port(), hanging.getsockname()[1], broker=CUT_OFF) as one:
        began = time.monotonic()
        assert one.ask("POST", "/videos", b"a video")[0] == 503
        assert time.monotonic() - began < 5


WORK = """
import json, sys
from newsroom import tasks
print(json.dumps(tasks.work(*sys.argv[1:])))
"""


def test_jobs_are_done_after_the_producer_that_accepted_them_is_lost(start, environment, tmp_path):
    if not shutil.which("ffmpeg"):
        pytest.skip("no ffmpeg here")
    first, second = free_port(), free_port()
    with start(second, first) as two:
        with start(first, second) as one:
            accepted = [one.upload(probe.film()) for _ in range(2)]
            shutil.rmtree(one.data / "videos")
            done = [work(environment, tmp_path, accepted[0], first, second)]  # its disk is blank
        done += [work(environment, tmp_path, accepted[1], first, second)]  # it does not answer
        for key, properties in zip(accepted, done, strict=True):
            assert properties["video_bytes"] == path_of(two, key, files.VIDEO).stat().st_size > 0
            assert properties["poster_bytes"] == path_of(two, key, files.POSTER).stat().st_size > 0
            assert two.ask("GET", f"/videos/{key}/video.mp4")[0] == 200


def work(environment: Path, folder: Path, key: str, *ports: int) -> dict:
    """The job as a worker does it, without broker and database; its message is the same with and without peers."""
    done = run_python(environment, folder, [*ports], "-c", WORK, key, f"http://127.0.0.1:{ports[0]}/internal/videos/{key}/upload")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


NOWHERE = """
import sys
from newsroom import transfer
try:
    transfer.at_first(sys.argv[1:], lambda url: transfer.fetch(url, "x" * 20, None, 1))
except Exception as error:
    print(type(error).__name__)
"""


def test_an_upload_is_gone_only_if_every_producer_answers_that_it_is(pair, environment, tmp_path):
    one, two = (f"http://127.0.0.1:{server.port}/videos/{KEY}/video.mp4" for server in pair)
    away = f"http://127.0.0.1:1/videos/{KEY}/video.mp4"
    outcome = {urls: run_python(environment, tmp_path, [], "-c", NOWHERE, *urls).stdout for urls in [(one, two), (away, two)]}
    assert outcome == {(one, two): "Gone\n", (away, two): "ConnectionError\n"}


def test_a_producer_without_the_result_serves_that_of_a_peer(pair):
    one, two = pair
    key = one.upload()
    one.ask("PUT", f"/internal/videos/{key}/video.mp4", b"the result", **BEARER)
    shutil.rmtree(path_of(two, key).parent)
    assert two.ask("GET", f"/videos/{key}/video.mp4")[::2] == (200, {"raw": b"the result"})
    assert path_of(two, key, files.VIDEO).read_bytes() == b"the result"
    assert two.ask("GET", f"/videos/{key}/poster.jpg")[0] == 404


def test_a_blank_producer_gets_everything_once_the_other_is_asked(pair, environment):
    one, two = pair
    key = one.upload(b"a video")
    one.ask("PUT", f"/internal/videos/{key}/video.mp4", b"the result", **BEARER)
    shutil.rmtree(two.data / "videos")
    done = run_python(environment, one.data.parent, [two.port], "-m", "newsroom.copies")
    assert done.returncode == 0 and "the web processes now copy" in done.stdout, done.stderr
    until(lambda: debts(one) == [], debts(one))
    assert path_of(two, key).read_bytes() == b"a video"
    assert path_of(two, key, files.VIDEO).read_bytes() == b"the result"


def test_debts_are_recorded_by_the_account_of_the_web_processes_only(environment, tmp_path):
    if os.geteuid():
        pytest.skip("gives files to another account")
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 65534, 65534)
    done = run_python(environment, tmp_path, [1], "-m", "newsroom.copies")
    assert done.returncode == 1 and "Run this as nobody" in done.stderr, done.stderr
    assert not list((tmp_path / "data").iterdir())


def test_the_inventory_names_the_other_producers_and_opens_the_way_to_them():
    ansible = [Path(sys.executable).parent / "ansible", "-i", "inventories/example-compact", "newsroom", "-m", "debug"]
    listing = "msg={{ [application_environment.NEWSROOM_PEER_URLS, topology_flows_extra[0].to | sort] }}"
    environment = os.environ | {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    done = subprocess.run([*ansible, "-a", listing], env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    hosts = json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]["tasks"][0]["hosts"]
    web1, web2 = "https://192.0.2.41:8000", "https://192.0.2.42:8000"
    peers = {"web1": web2, "web2": web1, "worker1": f"{web1},{web2}", "worker2": f"{web1},{web2}"}
    assert {host: report["msg"] for host, report in hosts.items()} == {host: [peers[host], ["web1", "web2"]] for host in peers}
