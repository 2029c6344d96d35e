"""The guests under test, and a client of their producer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from machines import Guest, ended, guests

from lab.demo import fleet, traffic, videos
from lab.demo.fleet import Fleet
from lab.machine import REPOSITORY

SHORT = videos.Video("kvm-short", (160, 120), 1, (160, 120))
# What a video's transcoding is measured with; wide enough that a second of it is work for real hardware too.
MEASURE = videos.Video("kvm-measure", (640, 360), 2, (640, 360))
# Seconds that the long one should take: a test steps in, a shutdown begins, and the task still has a while to go.
LONG_S = 45.0


@pytest.fixture
def promised(host) -> Callable[[str], dict[str, Any]]:
    """What the inventory, or else the role, says of a role's inputs that are plain numbers and words."""

    def inputs(role: str) -> dict[str, Any]:
        defaults = yaml.safe_load((REPOSITORY / f"roles/{role}/defaults/main.yml").read_text(encoding="utf-8"))
        given = host.ansible.get_variables()
        return {**defaults, **{name: value for name, value in given.items() if name in defaults}}

    return inputs


@pytest.fixture(scope="session")
def site(request) -> Fleet:
    return fleet.read(request.config.option.ansible_inventory)


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
    told = ended(send(MEASURE))
    assert told["state"] == "done", told
    took_s = videos_took(told)
    seconds = int(min(900, max(4, MEASURE.seconds * LONG_S / took_s)))
    return videos.Video(f"kvm-long-{seconds}", MEASURE.size, seconds, MEASURE.becomes)


def videos_took(told: dict) -> float:
    from datetime import datetime

    started, finished = (datetime.fromisoformat(told[name]) for name in ("started_at", "finished_at"))
    return (finished - started).total_seconds()
