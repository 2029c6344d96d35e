"""Writes whole files, with check mode on blank hosts and diffs without secrets."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ManagedFile:
    path: str
    content: str
    owner: str
    group: str
    mode: int
    secret: bool = False
    # Command that must accept the content before the file is put in place, with %s for the file.
    validate: str | None = None


class Invalid(Exception):
    """A validating program's error for a file's content."""


def usual_umask() -> None:
    """First in each module that creates directories: with a login's umask of 077 no service could read below them."""
    os.umask(0o022)


def current_content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return None


def diff_of(path: str, before: str | None, after: str, secret: bool) -> dict[str, str]:
    """The diff of one file; of a secret only that it changes."""
    if secret:
        before = None if before is None else "(secret, before)\n"
        after = "(secret, after)\n"
    return {"before_header": path, "after_header": path, "before": before or "", "after": after}


def ownership_differs(wanted: ManagedFile) -> bool:
    import grp
    import pwd

    status = os.stat(wanted.path)
    try:
        ids = (pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid)
    except KeyError:
        # Check mode on a host without the package, and so without its user.
        return True
    return (status.st_uid, status.st_gid) != ids or (status.st_mode & 0o7777) != wanted.mode


def write_atomically(wanted: ManagedFile) -> None:
    directory = os.path.dirname(wanted.path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    # With this prefix and suffix, neither a conf.d directory nor systemd reads a half-written file.
    handle, temporary = tempfile.mkstemp(prefix=".grunnfjell-", suffix=".new", dir=directory)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(wanted.content)
            stream.flush()
            os.fsync(stream.fileno())
        shutil.chown(temporary, wanted.owner, wanted.group)
        os.chmod(temporary, wanted.mode)
        if wanted.validate:
            command = [word.replace("%s", temporary) for word in shlex.split(wanted.validate)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                message = (done.stderr or done.stdout).strip().replace(temporary, wanted.path)
                raise Invalid(f"{wanted.path} was not put in place, since {command[0]} refuses it: {message}")
        os.replace(temporary, wanted.path)
    except BaseException:
        os.unlink(temporary)
        raise


@dataclass
class WriteResult:
    changed: list[str]
    diffs: list[dict[str, str]]
    previous: dict[str, str | None]

    def restore(self, files: list[ManagedFile]) -> None:
        """Restores the former files, or the refused ones would be read at the next reboot."""
        for wanted in files:
            if wanted.path not in self.previous:
                continue
            before = self.previous[wanted.path]
            if before is None:
                os.unlink(wanted.path)
            else:
                write_atomically(ManagedFile(wanted.path, before, wanted.owner, wanted.group, wanted.mode))


def write_files(files: list[ManagedFile], check_mode: bool) -> WriteResult:
    result = WriteResult(changed=[], diffs=[], previous={})
    for wanted in files:
        before = current_content(wanted.path)
        if before == wanted.content and not ownership_differs(wanted):
            continue
        result.changed.append(wanted.path)
        if before != wanted.content:
            result.diffs.append(diff_of(wanted.path, before, wanted.content, wanted.secret))
            result.previous[wanted.path] = before
        if not check_mode:
            write_atomically(wanted)
    return result


def journal(module: Any, unit: str) -> str:
    """The last lines of a service's journal, for an error message."""
    _, out, _ = module.run_command(["journalctl", "--no-pager", "--lines=20", "--output=cat", f"--unit={unit}"])
    return out.strip()
