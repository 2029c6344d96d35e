"""The machine that the lab runs on: its paths, packages and podman."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).resolve().parent.parent
BUILD = REPOSITORY / "build"
STATE = BUILD / "lab"
# The tools of requirements.txt.
BIN = Path(sys.executable).parent

# A file of each package; one that exists under another package's name, or by hand, is not installed again.
PACKAGES = {
    "podman": "/usr/bin/podman",
    # crun, podman's default, refuses machines that mount cgroup v1 and v2 side by side.
    "runc": "/usr/sbin/runc",
    "netavark": "/usr/lib/podman/netavark",
    # netavark's firewall: iptables for podman 4, nftables for podman 5.
    "iptables": "/usr/sbin/iptables",
    "nftables": "/usr/sbin/nft",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "ca-certificates": "/usr/sbin/update-ca-certificates",
    "openssh-client": "/usr/bin/ssh",
    # The demo makes videos.
    "ffmpeg": "/usr/bin/ffmpeg",
}


class Refusal(Exception):
    """Something that a person must correct; the message says what."""


def fail(message: str) -> NoReturn:
    print(f"lab: {message}", file=sys.stderr)
    raise SystemExit(1)


def podman(*arguments: str, check: bool = True, **kwargs) -> subprocess.CompletedProcess[str]:
    """Run podman with the lab's settings, through sudo unless root."""
    settings = {"CONTAINERS_CONF": str(REPOSITORY / "lab" / "containers.conf"), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive", f"--preserve-env={','.join(settings)}"]
    done = subprocess.run(
        [*root, "podman", *arguments], env={**os.environ, **settings}, text=True, capture_output=True, check=False, **kwargs
    )
    if check and done.returncode:
        raise Refusal(f"podman {' '.join(arguments)} failed:\n{done.stderr.strip()}")
    return done


def os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def missing_packages(wanted: dict[str, str]) -> list[str]:
    return [package for package, path in wanted.items() if not Path(path).exists()]


def install_packages(wanted: dict[str, str] = PACKAGES) -> None:
    missing = missing_packages(wanted)
    if not missing:
        return
    if os.geteuid() != 0:
        raise Refusal(f"these Debian packages are missing, and installing them needs root: {' '.join(missing)}")
    print(f"lab: installing {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Wait for another apt: failing would only make the person start again.
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    log = ""
    for step in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        done = subprocess.run([*apt, *step], env=environment, text=True, capture_output=True, check=False)
        log += done.stdout + done.stderr
    if missing := missing_packages(wanted):
        tail = "\n".join(log.splitlines()[-20:])
        raise Refusal(f"apt-get could not install {' '.join(missing)}:\n{tail}")


def give_back(path: Path) -> None:
    """Give files that root wrote through sudo to the person who called sudo."""
    owner = os.environ.get("SUDO_UID")
    if os.geteuid() != 0 or not owner:
        return
    for entry in (path, *path.rglob("*")):
        os.chown(entry, int(owner), int(os.environ.get("SUDO_GID", owner)), follow_symlinks=False)


@contextmanager
def refusals_shown(output: Path = BUILD) -> Iterator[None]:
    """End the program with the sentence of a Refusal; in any case give back `output`."""
    try:
        yield
    except Refusal as refusal:
        fail(str(refusal))
    finally:
        give_back(output)


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step: scenarios that start at the same time read and write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def git(*arguments: str, repository: Path = REPOSITORY) -> str:
    return subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=True).stdout


def in_turn(every: list[Any], commit: str, share: int) -> list[Any]:
    """One in `share` of the items, different ones for other commits, and all over `share` consecutive numbers."""
    return every[int(commit, 16) % share :: share]
