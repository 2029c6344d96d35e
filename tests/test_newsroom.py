"""The parts of the example application without dependencies: keys, tokens, paths, files, settings."""

import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from newsroom import auth, files, keys, media, settings

TOKEN = "0123456789abcdef"
KEY = "01a20d2b-3cd1-798c-885a-1eb797deb2e0"


def test_a_key_contains_the_time_of_acceptance():
    key = keys.new_key(now=1_795_517_974.123)
    assert keys.is_key(key)
    assert keys.accepted_at(key) == datetime.fromtimestamp(1_795_517_974.123, UTC)


@given(st.lists(st.integers(0, 2**40), min_size=2, max_size=2, unique=True))
def test_keys_sort_by_time(milliseconds):
    first, second = sorted(milliseconds)
    assert keys.new_key(first / 1000) < keys.new_key(second / 1000)


def test_keys_of_one_moment_differ():
    assert len({keys.new_key(now=1.0) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("text", ["", "x", KEY.upper(), KEY + "\n", "../" + KEY, KEY.replace("-", ""), KEY.replace("-7", "-4")])
def test_invalid_keys_are_recognised(text):
    assert not keys.is_key(text)


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (None, False),
        ("", False),
        ("Bearer ", False),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Bearer {TOKEN} ", False),
        ("Bearer blåbær", False),
    ],
)
def test_only_the_token_is_accepted(header, allowed):
    assert auth.allows(header, TOKEN) is allowed


def test_the_header_of_workers_is_accepted():
    assert auth.allows(auth.header(TOKEN)["Authorization"], TOKEN)


@given(key=st.text(), name=st.text())
def test_no_path_leads_out_of_the_folder(key, name):
    with pytest.raises(FileNotFoundError):
        files.Store(Path("/srv")).path(key, name)


@pytest.mark.parametrize("name", ["../upload", "upload/..", "", ".", "/etc/passwd", "video.mp4\x00"])
def test_an_invalid_name_is_not_found(name):
    with pytest.raises(FileNotFoundError):
        files.Store(Path("/srv")).path(KEY, name)


def test_a_name_keeps_its_first_content(tmp_path):
    store = files.Store(tmp_path)
    for content, created in ((b"first", True), (b"second", False)):
        with store.receive() as received:
            received.write_bytes(content)
            assert store.keep(received, KEY, files.VIDEO) is created
    assert store.path(KEY, files.VIDEO).read_bytes() == b"first"
    assert not list(store.incoming.iterdir())


def test_an_upload_that_fails_leaves_nothing(tmp_path):
    store = files.Store(tmp_path)
    with pytest.raises(files.TooLarge), store.receive() as received:
        files.write([b"x" * 10, b"x"], received, limit=10)
    assert not list(store.incoming.iterdir())


def test_exactly_the_limit_is_accepted(tmp_path):
    assert files.write([b"x" * 10], tmp_path / "file", limit=10) == 10


def test_a_forgotten_job_is_removed(tmp_path):
    store = files.Store(tmp_path)
    with store.receive() as received:
        store.keep(received, KEY, files.UPLOAD)
    store.forget(KEY)
    assert not store.path(KEY, files.UPLOAD).parent.exists()


def test_sweeping_removes_only_old_folders(tmp_path):
    for name, age in (("old", 100), ("new", 0)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "file").touch()
        os.utime(folder, (time.time() - age,) * 2)
    files.sweep(tmp_path, older_than_s=50)
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_the_environment_decides():
    conf = settings.load(
        {"NEWSROOM_TOKEN": TOKEN, "NEWSROOM_MAX_UPLOAD_BYTES": "10", "NEWSROOM_INTERNAL_URL": "http://10.0.0.1:8000/"}
    )
    assert (conf.max_upload_bytes, conf.internal_url) == (10, "http://10.0.0.1:8000")
    assert conf.data_dir == Path("/var/lib/newsroom")
    assert conf.peer_urls == ()


def test_peers_are_urls_separated_by_commas():
    peers = settings.load({"NEWSROOM_TOKEN": TOKEN, "NEWSROOM_PEER_URLS": "https://a:1/, https://b:1,,https://a:1"}).peer_urls
    assert peers == ("https://a:1", "https://b:1")


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "NEWSROOM_TOKEN"),
        ({"NEWSROOM_TOKEN": "short"}, "NEWSROOM_TOKEN"),
        ({"NEWSROOM_TOKEN": TOKEN, "NEWSROOM_MAX_UPLOAD_BYTES": "200 MiB"}, "NEWSROOM_MAX_UPLOAD_BYTES"),
        ({"NEWSROOM_TOKEN": TOKEN, "NEWSROOM_FFMPEG_THREADS": "0"}, "NEWSROOM_FFMPEG_THREADS"),
        ({"NEWSROOM_TOKEN": TOKEN, "NEWSROOM_PEER_URLS": "https://a:1,b:1"}, "NEWSROOM_PEER_URLS"),
    ],
)
def test_an_invalid_setting_is_refused_by_name(environment, named):
    with pytest.raises(settings.SettingsError, match=named):
        settings.load(environment)


def test_the_token_is_in_no_message():
    with pytest.raises(settings.SettingsError) as refusal:
        settings.load({"NEWSROOM_TOKEN": "topsecret"})
    assert "topsecret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("status", "stderr", "error", "message"),
    [
        (1, "[mov @ 0x1] moov atom not found\nu: Invalid data found\n", media.NotPlayable, "Invalid data found"),
        (1, "Format not on whitelist 'mov'\n/srv/u: Invalid argument\n", media.NotPlayable, "not taken"),
        (1, "", media.NotPlayable, "no reason"),
        (1, "av_write: No space left on device\n", OSError, "No space"),
        (1, "u: Resource temporarily unavailable\nConversion failed!\n", OSError, "Conversion failed"),
        (1, "u: Input/output error\n", OSError, "Input/output"),
        (1, "u: Disk quota exceeded\n", OSError, "quota"),
        (1, "u: Too many open files\n", OSError, "open files"),
        (1, "/srv/films/u: No such file or directory\n", OSError, "No such file"),
        (1, "[h264 @ 0x1] get_buffer() failed\nu: Cannot allocate memory\n", media.OutOfMemory, "allocate"),
        (1, "x264 [error]: malloc of size 13764736 failed\nvideo encoding failed\n", media.OutOfMemory, "failed"),
        (-9, "", media.OutOfMemory, "-9"),
    ],
)
def test_invalid_videos_and_failures_of_the_host_are_distinguished(monkeypatch, status, stderr, error, message):
    """Review finding 27. A failure of the host failed the job for good, though another host could do it."""

    def run(command, **_):
        return subprocess.CompletedProcess(command, status, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(error, match=message):
        media.probe(Path("/srv/u"))


def test_a_file_without_a_picture_is_not_a_video(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, '{"format": {}}', ""))
    with pytest.raises(media.NotPlayable, match="no moving picture"):
        media.probe(Path("/srv/u"))


@pytest.fixture
def film(tmp_path) -> Path:
    """A video of 320 × 240 pixels, by a real ffmpeg."""
    if not shutil.which("ffmpeg"):
        pytest.skip("no ffmpeg here")
    source = ["-f", "lavfi", "-i", "testsrc=size=320x240:rate=10:duration=1", "-c:v", "libx264", "-preset", "ultrafast"]
    subprocess.run(["ffmpeg", "-v", "error", *source, tmp_path / "film.mp4"], check=True)
    return tmp_path / "film.mp4"


def test_a_video_is_made_within_the_bounds(film, tmp_path):
    media.make_video(film, tmp_path / "video.mp4", threads=1)
    assert media.probe(tmp_path / "video.mp4").width == 320


def test_a_picture_that_would_need_gigabytes_is_not_a_video(film, tmp_path, monkeypatch):
    """Review finding 28. By the size in its header; ffmpeg refuses to decode it, whatever ffprobe reports."""
    assert media.CAUTIOUS[-2:] == ["-max_pixels", str(64 * 1024 * 1024)]
    monkeypatch.setattr(media, "MAX_PIXELS", 320 * 240 - 1)
    with pytest.raises(media.NotPlayable, match="too large: 320 × 240"):
        media.probe(film)
    monkeypatch.setattr(media, "CAUTIOUS", [*media.CAUTIOUS[:-1], str(320 * 240 - 1)])
    with pytest.raises(media.NotPlayable):
        media.make_video(film, tmp_path / "video.mp4", threads=1)


def test_ffmpeg_gets_no_more_memory_than_its_limit(film, tmp_path, monkeypatch):
    """Review finding 28. Refused memory is distinguished from an unreadable video."""
    prlimit, _, *rest = media.BOUNDED
    monkeypatch.setattr(media, "BOUNDED", [prlimit, f"--as={300 * 1024**2}", *rest])
    huge = tmp_path / "huge.mp4"
    source = ["-f", "lavfi", "-i", "color=size=3840x2160:rate=2:duration=1", "-c:v", "libx264", "-preset", "ultrafast"]
    subprocess.run(["ffmpeg", "-v", "error", *source, huge], check=True)
    with pytest.raises(media.OutOfMemory):
        media.make_video(huge, tmp_path / "video.mp4", threads=1)
