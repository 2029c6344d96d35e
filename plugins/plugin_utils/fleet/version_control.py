"""Whether a copy of a directory is in version control, and elsewhere, as git on the control machine reports."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from .run_lock import NAME


def git(directory: Path, *arguments: str) -> str | None:
    """The output of a command; None if it failed, or without git."""
    try:
        done = subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def state(directory: Path) -> dict[str, Any] | None:
    """Files of the directory without a committed copy, and the number of its commits that no remote has (None without a remote).

    None if the directory is not under version control.
    """
    listed = git(directory, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--ignored", "--", ".")
    if listed is None:
        return None
    entries = [(entry[:2], entry[3:]) for entry in listed.split("\0") if entry and not entry.endswith(NAME)]
    remotes = git(directory, "remote")
    unpushed = git(directory, "rev-list", "--count", "HEAD", "--not", "--remotes", "--", ".")
    return {
        "uncommitted": [name for mark, name in entries if mark != "!!"],
        "ignored": [name for mark, name in entries if mark == "!!"],
        "unpushed": int(unpushed or 0) if remotes else None,
    }


def tracked(path: Path) -> bool:
    return git(path.parent, "ls-files", "--error-unmatch", "--", path.name) is not None
