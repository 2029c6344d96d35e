"""The speed of a host's disk, measured with fio."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bounded import run

# Lowest priority of the best-effort class: services go first, but unlike the idle class it always gets some time.
LOW_PRIORITY = ["nice", "-n", "10", "ionice", "-c", "2", "-n", "7"]
# A page of PostgreSQL's WAL, which a commit writes before it waits for the disk.
WAL_PAGE = 8192
READERS = 32
SYNCED_BYTES = 128 * 2**20
# The test file takes at most 1/16 of the free space, or a broker near its disk limit would raise its alarm.
SHARE_OF_FREE = 16


class NotMeasured(Exception):
    """Why there is no value."""


def nearest(directory: str) -> str:
    """The directory, or its nearest existing parent: a service's directory comes with its package."""
    path = os.path.abspath(directory)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


@dataclass(frozen=True)
class Fio:
    """The fio program, and the directories of its libraries if they are not installed."""

    program: str
    libraries: str = ""

    def job(self, directory: str, timeout: int, *options: str) -> dict[str, Any]:
        """Runs one job in a temporary directory."""
        scratch = tempfile.mkdtemp(prefix=".acceptance-", dir=nearest(directory))
        argv = [*LOW_PRIORITY, self.program, "--name=acceptance", f"--directory={scratch}", "--output-format=json", *options]
        try:
            done = run(argv, timeout=timeout, env=os.environ | {"LD_LIBRARY_PATH": self.libraries})
        except OSError as error:
            raise NotMeasured(f"fio: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise NotMeasured(f"fio did not end within {timeout} s") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return job_of(done.returncode, done.stdout, done.stderr)


@contextmanager
def available_fio(home: Path) -> Iterator[Fio]:
    """The installed fio, or Debian's package, unpacked beside the records for the duration of the measure.

    Not installed: it depends on thirty libraries of storage clusters, which take longer to install and remove than the measure,
    and a host that will be refused stays unchanged.
    """
    if own := shutil.which("fio"):
        yield Fio(own)
        return
    home.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".fio-", dir=home))
    try:
        yield unpacked(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def unpacked(place: Path) -> Fio:
    """Fetches the package and its missing dependencies from the host's package sources."""
    (place / "archives/partial").mkdir(parents=True)
    apt = ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "APT::Sandbox::User=root"]
    fetch = [*apt, "-o", f"Dir::Cache::Archives={place}/archives", "--no-install-recommends", "--download-only", "install", "fio"]
    try:
        # A blank host has no package list yet, and an old list names versions that the mirror no longer has.
        done = run(fetch, timeout=300)
        if done.returncode:
            run([*apt, "update"], timeout=300)
            done = run(fetch, timeout=300)
        for archive in sorted((place / "archives").glob("*.deb")):
            done = done if done.returncode else run(["dpkg-deb", "-x", str(archive), str(place / "root")], timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMeasured(f"fio could not be fetched: {error}") from error
    if done.returncode:
        raise NotMeasured(f"fio could not be fetched: {' '.join(done.stderr.split())[:300]}")
    libraries = sorted({str(path.parent) for path in (place / "root").rglob("*.so*")})
    return Fio(str(place / "root/usr/bin/fio"), ":".join(libraries))


def job_of(returncode: int, out: str, err: str) -> dict[str, Any]:
    """The job in fio's output, whose JSON may follow a warning."""
    try:
        job = json.loads(out[out.index("{") :])["jobs"][0]
    except (ValueError, KeyError, IndexError):
        job = {"error": 1}
    if returncode or job.get("error"):
        message = " ".join(line for line in (err or out).splitlines() if "fio:" in line) or f"fio ended with {returncode}"
        raise NotMeasured(message[:300])
    return job


def iops(fio: Fio, directory: str, file_bytes: int, seconds: int) -> int:
    disk = os.statvfs(nearest(directory))
    size = min(file_bytes, disk.f_frsize * disk.f_bavail // SHARE_OF_FREE)
    if size < 2**20:
        raise NotMeasured("the filesystem is full")
    # 32 readers of 4 KiB without the page cache, like a database's backends. libaio and io_uring would need less CPU, but not
    # every kernel allows them.
    job = fio.job(
        directory, 10 * seconds + 300,
        "--rw=randread", "--bs=4k", "--direct=1", "--ioengine=psync", "--thread", f"--numjobs={READERS}", "--group_reporting",
        "--filename=reads",
        f"--size={size // 4096 * 4096}", "--time_based", f"--runtime={seconds}",
    )  # fmt: skip
    return round(job["read"]["iops"])


def fsync(fio: Fio, directory: str, seconds: int) -> float:
    """The 99th percentile in milliseconds of writing a page durably."""
    job = fio.job(
        directory, 10 * seconds + 60,
        "--rw=write", f"--bs={WAL_PAGE}", "--ioengine=psync", "--fdatasync=1", f"--size={SYNCED_BYTES}", f"--runtime={seconds}",
    )  # fmt: skip
    return round(job["sync"]["lat_ns"]["percentile"]["99.000000"] / 1e6, 3)
