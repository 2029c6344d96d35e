"""newsroom's probe: its film is a video, and each reason why a job does not return is a sentence."""

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from newsroom import probe
from newsroom_server import APPLICATION, TOKEN, Server, serve


def chunks(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    while body:
        name, size = body[:4], struct.unpack("<I", body[4:8])[0]
        assert len(body) >= 8 + size, f"{name!r} is shorter than its header says"
        yield name, body[8 : 8 + size]
        body = body[8 + size + size % 2 :]


def test_the_film_is_an_avi_with_as_many_pictures_as_its_header_says() -> None:
    ((name, riff),) = chunks(probe.film())
    assert (name, riff[:4]) == (b"RIFF", b"AVI ")
    header, movie = (body for name, body in chunks(riff[4:]))
    assert (header[:4], movie[:4]) == (b"hdrl", b"movi")
    pictures = [body for name, body in chunks(movie[4:]) if name == b"00db"]
    assert len(pictures) == probe.FRAMES and {len(picture) for picture in pictures} == {probe.WIDTH * probe.HEIGHT * 3}
    main = dict(chunks(header[4:]))[b"avih"]
    assert struct.unpack("<14I", main)[4] == probe.FRAMES and struct.unpack("<14I", main)[8:10] == (probe.WIDTH, probe.HEIGHT)


@pytest.fixture(scope="module")
def server(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serve(environment, tmp_path_factory.mktemp("probe"), "memory://")


def run(environment: Path, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {"PYTHONPATH": str(APPLICATION), "NEWSROOM_TOKEN": TOKEN, "NEWSROOM_INTERNAL_URL": f"http://127.0.0.1:{port}"}
    command = [environment / "bin/python", "-m", "newsroom.probe", *arguments]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False, cwd="/")


def test_the_probe_gives_up_a_job_that_no_worker_takes(environment: Path, server: Server) -> None:
    done = run(environment, server.port, "--deadline=1")
    assert done.returncode == 1 and done.stdout == ""
    assert "was accepted, and after 1 s it is" in done.stderr, done.stderr
    assert any(name.endswith("/upload") for name in server.stored()), "the film never reached the producer"


def test_a_producer_that_does_not_answer_is_named(environment: Path) -> None:
    done = run(environment, 1)
    assert done.returncode == 1 and "http://127.0.0.1:1 does not answer" in done.stderr, done.stderr
