"""The fleet under test, and a client of its producer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from jobs import LONG, SHORT

from lab.demo import fleet, traffic, videos
from lab.demo.fleet import Fleet


@pytest.fixture(scope="module")
def site(request) -> Fleet:
    return fleet.read(request.config.option.ansible_inventory)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[videos.Video, Path]:
    return videos.make((LONG, SHORT), tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def upload(site, films) -> Callable[[videos.Video], traffic.Answer]:
    producer = site.group("producers")[0]
    return lambda video: traffic.post(producer.url, films[video])
