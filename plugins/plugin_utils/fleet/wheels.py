"""The locked packages of an application as wheels for another machine, fetched once by the control machine."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from .source import SourceError

FETCH_SECONDS = 1800
# An archive that no run has used for so long is deleted.
KEPT_SECONDS = 90 * 86400
LAST_LINES = 15


def wheels_for(lock: Path, platform: dict[str, Any], name: str) -> Path:
    """A tar archive with a wheel for each package of the lock that the platform needs. The hosts compare their hashes.

    lock: the file; directories of its --find-links are next to it.
    platform: as a host's platform_of (module_utils/environments.py) says.  name: of the environment, one per lock and platform.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "grunnfjell/wheels"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    archive = cache / f"{name}.tar"
    # Ansible asks for several hosts at the same time.
    with (cache / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not archive.exists():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                fetch(lock, platform, Path(scratch))
                with tarfile.open(Path(scratch) / "tar", "w") as packed:
                    for wheel in sorted(Path(scratch).glob("*.whl")):
                        packed.add(wheel, wheel.name)
                (Path(scratch) / "tar").replace(archive)
        os.utime(archive)
    for old in cache.glob("*.tar"):
        if old.stat().st_mtime < time.time() - KEPT_SECONDS:
            old.unlink()
    return archive


def fetch(lock: Path, platform: dict[str, Any], directory: Path) -> None:
    markers = platform["markers"]
    if markers["implementation_name"] != "cpython" or platform["libc"][0] != "glibc":
        raise SourceError(
            f"application_requirements_from is control, but this machine can fetch wheels only for CPython with glibc, and "
            f"application_python is {platform['python']}. Set application_requirements_from to index."
        )
    wanted = directory / "requirements.txt"
    wanted.write_text("\n".join(lines_for(lock.read_text(encoding="utf-8"), markers, lock.parent)) + "\n")
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--quiet"),
        *("--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(wanted), "--dest", str(directory)),
        *("--implementation", "cp", "--python-version", markers["python_full_version"].rstrip("+")),
        *(word for tag in platform_tags(platform) for word in ("--platform", tag)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS, cwd="/")
    except subprocess.TimeoutExpired:
        raise SourceError(
            f"The wheels of application_requirements were not fetched within {FETCH_SECONDS} s. Run again."
        ) from None
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-LAST_LINES:])
        raise SourceError(
            f"application_requirements_from is control, but this machine cannot fetch a wheel for Python "
            f"{markers['python_version']} on {markers['platform_machine']} of each package of application_requirements. "
            f"Put a wheel of what has none into the source (docs/your-application.md), correct pip's configuration here, or set "
            f"application_requirements_from to index.\n{tail}"
        )


def lines_for(lock: str, markers: dict[str, str], directory: Path) -> Iterator[str]:
    """The lines of a lock whose conditions hold on the platform: pip would compare them with the control machine.

    >>> lock = 'a==1 ; python_version < "3.12" \\\\\\n    --hash=sha256:aa\\nb==2 --hash=sha256:bb'
    >>> list(lines_for("--find-links wheels\n" + lock, {"python_version": "3.13"}, Path("/source")))
    ['--find-links /source/wheels', 'b==2 --hash=sha256:bb']
    """
    for line in lock.replace("\\\n", " ").splitlines():
        line = line.partition(" #")[0].strip()
        if line.startswith("--find-links") and "://" not in line:
            yield f"--find-links {directory / line.split(maxsplit=1)[-1].removeprefix('--find-links=')}"
        elif line.startswith("-"):
            yield line
        elif line and not line.startswith("#"):
            text, *options = line.split(" --")
            try:
                requirement = Requirement(text.strip())
            except InvalidRequirement as error:
                raise SourceError(
                    f"application_requirements has the line '{text.strip()}', which pip cannot read: {error}. Correct it."
                ) from None
            if requirement.marker is None or requirement.marker.evaluate(dict(markers)):
                requirement.marker = None
                yield " --".join([str(requirement), *(option.strip() for option in options)])


def platform_tags(platform: dict[str, Any]) -> list[str]:
    """The platforms of wheels that the host can use, the best first.

    >>> platform_tags({"libc": ["glibc", "2.7"], "markers": {"platform_machine": "x86_64"}})[:3]
    ['manylinux_2_7_x86_64', 'manylinux_2_6_x86_64', 'manylinux_2_5_x86_64']
    """
    machine, minor = platform["markers"]["platform_machine"], int(platform["libc"][1].split(".")[1])
    versions = [f"manylinux_2_{number}_{machine}" for number in range(minor, 4, -1)]
    return [*versions, *(f"{name}_{machine}" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux"))]
