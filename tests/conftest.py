"""Fixtures of several test files, and how properties are tried: the same examples every time, however slow the machine is."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import bounded
from hypothesis import HealthCheck, settings

from lab.machine import REPOSITORY

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


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Sets what the commands of a module answer; returns the calls, a list that grows."""
    calls: list[dict[str, Any]] = []

    def set_answer(returncode: int = 0, out: str = "", err: str = "", error: Exception | None = None) -> list[dict[str, Any]]:
        def run(argv: list[str], timeout: float, stdin: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
            calls.append({"argv": argv, "timeout": timeout, "stdin": stdin, **options})
            if error:
                raise error
            return subprocess.CompletedProcess(argv, returncode, out, err)

        monkeypatch.setattr(bounded, "run", run)
        return calls

    return set_answer


@pytest.fixture
def zombie() -> Iterator[int]:
    """The number of a process that ended and is not waited for."""
    child = subprocess.Popen(["true"])
    with Path(f"/proc/{child.pid}/stat").open(encoding="utf-8") as stat:
        while " Z " not in stat.read():
            stat.seek(0)
    yield child.pid
    child.wait()


@pytest.fixture(scope="session")
def environment() -> Path:
    """The locked Python environment of examples/newsroom, which uv builds once in build/."""
    lock = REPOSITORY / "examples/newsroom/requirements.txt"
    folder = REPOSITORY / "build" / f"newsroom-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (folder / "ready").exists():
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "venv", "-q", "--clear", "-p", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "-q", "-p", folder / "bin/python", "--require-hashes", "-r", lock], check=True)
        (folder / "ready").touch()
    return folder
