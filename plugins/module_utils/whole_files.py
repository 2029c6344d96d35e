"""Write whole files from a module: check mode on a host where nothing exists yet, diffs without secrets."""

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
    # The program that says whether the content can be read, with %s for the file; it asks before the file is put in place.
    validate: str | None = None


class Invalid(Exception):
    """What the program that reads a file says against its content."""


def usual_umask() -> None:
    """First in each module that makes directories: with a login's umask of 077 no service could reach its files below them."""
    os.umask(0o022)


def current_content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return None


def diff_of(path: str, before: str | None, after: str, secret: bool) -> dict[str, str]:
    """What --diff may show of one file; of a secret only that it changes."""
    if secret:
        before = None if before is None else "(secret, before)\n"
        after = "(secret, after)\n"
    return {
        "before_header": path,
        "after_header": path,
        "before": before or "",
        "after": after,
    }


def ownership_differs(wanted: ManagedFile) -> bool:
    import grp
    import pwd

    found = os.stat(wanted.path)
    try:
        ids = (pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid)
    except KeyError:
        # Check mode on a host that lacks the package, and so its user.
        return True
    return (found.st_uid, found.st_gid) != ids or (found.st_mode & 0o7777) != wanted.mode


def write_atomically(wanted: ManagedFile) -> None:
    directory = os.path.dirname(wanted.path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    # The name begins with a dot and ends so that neither conf.d nor systemd would ever read a half-written file.
    handle, temporary = tempfile.mkstemp(prefix=".grunnfjell-", suffix=".new", dir=directory)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(wanted.content)
            stream.flush()
            os.fsync(stream.fileno())
        shutil.chown(temporary, wanted.owner, wanted.group)
        os.chmod(temporary, wanted.mode)
        if wanted.validate:
            asked = [word.replace("%s", temporary) for word in shlex.split(wanted.validate)]
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stderr or done.stdout).strip().replace(temporary, wanted.path)
                raise Invalid(f"{wanted.path} was not put in place, since {asked[0]} refuses it: {said}")
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
        """Put back what stood there before: a refused configuration must not wait for the next reboot."""
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
    """The last words of a service, for the person who reads a failure."""
    _, out, _ = module.run_command(["journalctl", "--no-pager", "--lines=20", "--output=cat", f"--unit={unit}"])
    return out.strip()
