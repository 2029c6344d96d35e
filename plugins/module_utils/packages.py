"""Packages of this host that have a newer version, and whether the host waits for a reboot."""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Debian's kernel packages and unattended-upgrades create it; a reboot removes it.
REBOOT_REQUIRED = Path("/run/reboot-required")
LOGS = Path("/var/log/unattended-upgrades")
DPKG = Path("/var/lib/dpkg/info")
HELD_BACK = "Packages with upgradable origin but kept back"
STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ")


def pending(prefixes: Iterable[str]) -> list[dict[str, Any]]:
    """Installed packages whose name begins with a prefix and that have a newer version in the lists that apt has fetched.

    Each with `name`, `installed`, `candidate` and `since`, the time when unattended upgrades first left it alone, or None.
    """
    import apt  # the host's python3-apt, which Ansible needs too; the control node may have none

    wanted = tuple(prefixes)
    packages = [package for package in apt.Cache() if package.name.startswith(wanted) and package.is_upgradable]
    return [
        {
            "name": package.name,
            "installed": package.installed.version,
            "candidate": package.candidate.version,
            "since": waiting_since(log_lines(), package.name, installed_at(package.name, package.architecture())),
        }
        for package in sorted(packages, key=lambda package: package.name)
    ]


def installed_at(name: str, architecture: str) -> float:
    """When dpkg unpacked the installed version; 0 if it cannot be read."""
    for path in (DPKG / f"{name}.list", DPKG / f"{name}:{architecture}.list"):
        if path.exists():
            return path.stat().st_mtime
    return 0.0


def log_lines() -> list[str]:
    """The lines of unattended-upgrades' logs, the oldest first."""
    lines: list[str] = []
    paths = sorted(LOGS.glob("unattended-upgrades.log*"), key=lambda path: path.stat().st_mtime)
    for path in paths:
        data = path.read_bytes()
        lines += (gzip.decompress(data) if path.suffix == ".gz" else data).decode(errors="replace").splitlines()
    return lines


def waiting_since(lines: Iterable[str], name: str, after: float) -> float | None:
    """The first time after that moment at which unattended-upgrades kept the package back.

    >>> log = [f"2026-11-20 06:10:00,1 INFO {HELD_BACK}:", " Debian trixie-security:", "  etcd-server"]
    >>> waiting_since(log, "etcd-server", 0) == time.mktime((2026, 11, 20, 6, 10, 0, 0, 0, -1))
    True
    >>> waiting_since(log, "haproxy", 0) is None
    True
    """
    moment: float | None = None
    for line in lines:
        stamp = STAMP.match(line)
        if stamp:
            held = HELD_BACK in line
            moment = time.mktime(time.strptime(stamp[1], "%Y-%m-%d %H:%M:%S")) if held else None
        if moment is not None and moment > after and name in line.split():
            return moment
    return None


def reboot_due_since() -> float | None:
    """When an installed kernel or library asked for a reboot; None if none did."""
    return REBOOT_REQUIRED.stat().st_mtime if REBOOT_REQUIRED.exists() else None
