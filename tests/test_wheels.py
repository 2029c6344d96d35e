"""The control machine fetches the wheels of a lock for a host with another Python; the host installs them without an index."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.source import SourceError
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.wheels import wheels_for

# A host of Debian 13 as this machine's Python never is.
HOST = {
    "python": "/usr/bin/python3",
    "libc": ["glibc", "2.41"],
    "markers": {
        "implementation_name": "cpython", "implementation_version": "3.13.5", "os_name": "posix", "platform_machine": "aarch64",
        "platform_python_implementation": "CPython", "platform_release": "6.12.0", "platform_system": "Linux",
        "platform_version": "1", "python_full_version": "3.13.5", "python_version": "3.13", "sys_platform": "linux",
    },
}  # fmt: skip
TAGS = {
    "portable": "py3-none-any", "backport": "py3-none-any", "there": "cp313-cp313-manylinux_2_39_aarch64",
    "older": "cp39-abi3-manylinux2014_aarch64",
}  # fmt: skip
ELSEWHERE = "cp311-cp311-manylinux_2_17_x86_64"


def wheel(name: str, tag: str) -> bytes:
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return packed.getvalue()


class Index:
    """A directory of wheels that pip takes for the index; `lines` of a lock with the hash of each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, name: str, tag: str) -> str:
        content = wheel(name, tag)
        (self.directory / f"{name}-1.0-{tag}.whl").write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def lock(self, text: str) -> Path:
        file = self.directory.parent / "source/requirements.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Index(tmp_path / "index")


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as packed:
        return packed.getnames()


def test_the_wheels_are_those_of_the_host_and_are_fetched_once(index: Index) -> None:
    digests = {name: index.add(name, tag) for name, tag in TAGS.items()}
    index.add("there", ELSEWHERE)  # another wheel of the same version
    lock = "\n".join([
        "# comment",
        f"portable==1.0 \\\n    --hash=sha256:{digests['portable']}",
        f"there==1.0 --hash=sha256:{digests['there']}  # via portable",
        f"older==1.0 ; platform_machine == 'aarch64' \\\n    --hash=sha256:{digests['older']}",
        f"backport==1.0 ; python_version < '3.12' --hash=sha256:{digests['backport']}",
    ])  # fmt: skip
    archive = wheels_for(index.lock(lock), HOST, "a")
    assert names(archive) == [f"{name}-1.0-{TAGS[name]}.whl" for name in ("older", "portable", "there")]
    for file in index.directory.iterdir():
        file.unlink()
    assert wheels_for(index.lock(lock), HOST, "a") == archive


@pytest.mark.parametrize(
    ("tag", "digest", "sentence"),
    [
        (ELSEWHERE, None, "cannot fetch a wheel for Python 3.13 on aarch64"),
        (TAGS["portable"], "0" * 64, "DO NOT MATCH THE HASHES"),
    ],
    ids=["none for the host", "another hash"],
)
def test_a_package_without_its_wheel_is_refused_and_nothing_is_kept(index: Index, tag: str, digest: str, sentence: str) -> None:
    right = index.add("tiny", tag)
    with pytest.raises(SourceError, match=sentence) as refused:
        wheels_for(index.lock(f"tiny==1.0 --hash=sha256:{digest or right}"), HOST, "b")
    assert "set application_requirements_from to index" in str(refused.value)
    assert not [*(index.directory.parent / "cache").rglob("*.tar")]


def test_wheels_for_another_kind_of_python_are_refused(index: Index) -> None:
    host = HOST | {"python": "/usr/bin/pypy3", "markers": HOST["markers"] | {"implementation_name": "pypy"}}
    with pytest.raises(SourceError, match="only for CPython with glibc, and application_python is /usr/bin/pypy3"):
        wheels_for(index.lock(""), host, "c")


def test_a_line_that_pip_cannot_read_is_named(index: Index) -> None:
    with pytest.raises(SourceError, match=r"has the line 'a b c', which pip cannot read"):
        wheels_for(index.lock("a b c"), HOST, "d")


def test_a_wheel_in_the_source_stands_for_a_package_that_has_none(index: Index) -> None:
    digest = index.add("rare", TAGS["portable"])
    (index.directory.parent / "source").mkdir()
    index.directory.rename(index.directory.parent / "source/wheels")
    archive = wheels_for(index.lock(f"--find-links wheels\nrare==1.0 --hash=sha256:{digest}"), HOST, "e")
    assert names(archive) == ["rare-1.0-py3-none-any.whl"]
