"""The power of a lab's host: what a shut-down file system keeps, and the container that has one."""

import os
from pathlib import Path

import pytest

from lab import power


@pytest.fixture
def files(monkeypatch, tmp_path) -> Path:
    if os.geteuid():
        pytest.skip("mounts a file system")  # only root may; CI runs as root and asks it
    monkeypatch.setattr(power, "DISKS", tmp_path / "disks")
    power.DISKS.mkdir()
    power.run("mke2fs", "-q", "-t", "ext4", str(power.disk("db1")), "64M")
    power.mount("db1")
    yield power.root("db1")
    power.remove([])


def write(path: Path, text: bytes, *, flush: bool) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(number, text)
    if flush:
        os.fsync(number)
    os.close(number)


def test_a_power_cut_loses_what_was_not_flushed_and_nothing_else(files):
    write(files / "both", b"flushed", flush=True)
    write(files / "both", b"written", flush=False)
    write(files / "new", b"written", flush=False)
    assert (files / "both").read_bytes() == b"written"
    power.shut_down(files)
    with pytest.raises(OSError):
        (files / "late").write_bytes(b"")
    power.run("umount", str(files))
    power.mount("db1")
    assert (files / "both").read_bytes() == b"flushed"
    assert not (files / "new").exists() or (files / "new").read_bytes() == b""


def test_disks_of_other_hosts_stay(files):
    power.remove(["db2"])
    assert power.disk("db1").exists() and files.is_mount()
    power.remove(["db1"])
    assert not power.disk("db1").exists() and not files.exists()


def test_the_container_differs_only_in_where_its_files_are():
    before = ["podman", "container", "run", "--name", "grunnfjell-db1", "--memory", "3g", "localhost/grunnfjell-debian:13"]
    assert power.with_root(before, Path("/d")) == [*before[1:-1], "--rootfs", "/d", "/sbin/init"]
