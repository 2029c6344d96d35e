"""Runs restic through the program of role restic, which knows the host's repositories, login and key."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from . import bounded

PROGRAM = "/usr/local/lib/grunnfjell/restic"
CLIENT = Path("/etc/grunnfjell/restic/client.json")
STATE = Path("/var/lib/grunnfjell/restic")
RECORD, DRILL = STATE / "backups.json", STATE / "drill.json"
NO_REPOSITORY = "Is there a repository at the following location?"
# In the program's refusal to back a blank machine up.
REPLACED = "the machine that this one replaces"
# As in the program.
PERIODS = {"week": ("%G-W%V", timedelta(days=7)), "month": ("%Y-%m", timedelta(days=28))}
# Periods to look back for a backup: more than a year.
LOOK_BACK = 60


class ResticError(Exception):
    """The program's message in one line."""


def run(*arguments: str, timeout: float = 120) -> str:
    """The program's standard output."""
    try:
        done = bounded.run([PROGRAM, *arguments], timeout, cwd="/")
    except FileNotFoundError as error:
        raise ResticError("this host backs up no files: give it the role restic, and run playbooks/restic.yml") from error
    except subprocess.TimeoutExpired as error:
        raise ResticError(f"restic {' '.join(arguments)[:60]} did not end within {timeout:g} s") from error
    if done.returncode:
        raise ResticError(" ".join(done.stderr.split())[:500] or f"restic ended with {done.returncode}")
    return done.stdout


def client() -> dict[str, Any]:
    """The settings of a host with files."""
    try:
        return json.loads(CLIENT.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResticError("this host backs up no files: give it the role restic, and run playbooks/restic.yml") from None


def read(path: Path) -> dict[str, Any]:
    """A record, empty if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def periods(moment: datetime, full_every: str) -> list[str]:
    """The periods whose repository may hold the last backup before a moment, the latest first.

    >>> periods(datetime(2026, 1, 2, tzinfo=UTC), "month")[:3], periods(datetime(2026, 1, 2, tzinfo=UTC), "week")[:2]
    (['2026-01', '2025-12', '2025-11'], ['2026-W01', '2025-W52'])
    """
    pattern, length = PERIODS[full_every]
    return list(dict.fromkeys((moment - length * back).strftime(pattern) for back in range(LOOK_BACK)))[:54]


def taken(snapshot: dict[str, Any]) -> datetime:
    """When a snapshot was begun."""
    return datetime.fromisoformat(snapshot["time"]).astimezone(UTC)


def snapshot_before(host: str, moment: datetime, full_every: str) -> tuple[str, dict[str, Any]] | None:
    """The period and the last snapshot at a repository host that was begun before a moment."""
    for period in periods(moment, full_every):
        try:
            held = json.loads(run("--at", host, "--period", period, "snapshots", "--json", "--no-lock")) or []
        except ResticError as error:
            if NO_REPOSITORY in str(error):
                continue
            raise
        if before := [snapshot for snapshot in held if taken(snapshot) <= moment]:
            return period, max(before, key=taken)
    return None


def nodes(host: str, period: str, snapshot: str, *paths: str) -> list[dict[str, Any]]:
    """The files and directories of a snapshot, below a path if one is given."""
    # Without --recursive, a path gets what lies directly in it and nothing deeper.
    place = ("--at", host, "--period", period, "ls", "--json", "--no-lock", "--recursive")
    output = run(*place, snapshot, *paths, timeout=3600)
    entries = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [entry for entry in entries if entry.get("struct_type") == "node"]
