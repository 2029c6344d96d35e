"""The virtual machines under test, and a client of their producer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from machines import Guest, ended, guests

from lab.demo import fleet, traffic, videos
from lab.demo.fleet import Fleet

# Its transcoding time is measured; large enough that one second of it takes real hardware a while.
MEASURE = videos.Video("kvm-measure", (640, 360), 2, (640, 360))
# How long the transcoding of the long video should take: time for a test to step in and for a shutdown to begin.
LONG_S = 45.0


@pytest.fixture(scope="session")
def site(inventory) -> Fleet:
    return fleet.read(inventory)


@pytest.fixture(scope="session")
def machines(site) -> dict[str, list[Guest]]:
    return guests(site)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="session")
def send(site, folder) -> Callable[[videos.Video], traffic.Answer]:
    """Upload a video to the producer."""
    producer = site.group("producers")[0]

    def upload(video: videos.Video) -> traffic.Answer:
        path = folder / video.file
        return traffic.post(producer.url, path if path.exists() else videos.make((video,), folder)[video])

    return upload


@pytest.fixture(scope="session")
def long(send) -> videos.Video:
    """A video whose transcoding takes about LONG_S here, whether the processor is real or emulated."""
    job = ended(send(MEASURE))
    assert job["state"] == "done", job
    started, finished = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    seconds = int(min(900, max(4, MEASURE.seconds * LONG_S / (finished - started).total_seconds())))
    return videos.Video(f"kvm-long-{seconds}", MEASURE.size, seconds, MEASURE.becomes)
