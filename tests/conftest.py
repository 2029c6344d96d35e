"""Fixtures of several test files, and how properties are tried: the same examples every time, however slow the machine is."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("grunnfjell", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("grunnfjell")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file below tmp_path and makes its directories; returns its path."""

    def write(path: str, text: str = "") -> Path:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        return tmp_path / path

    return write
