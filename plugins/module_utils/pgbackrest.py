"""Runs pgBackRest as its account, and reads what it reports."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import bounded

ACCOUNT = "postgres"
# The complete environment: PGBACKREST_* variables of Ansible's login would change the configuration.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
# Errors on stderr only, so the standard output is the answer.
QUIET = ("--log-level-console=off", "--log-level-stderr=error", "--no-log-timestamp")
ERROR = re.compile(r"ERROR: \[(\d+)\]: (.*)", re.DOTALL)
# Codes of upstream's src/common/error.auto.c.
FILE_INVALID = 28
# Of `info`: the other ones are a stanza or a backup that is missing.
UNREADABLE = 99


class PgbackrestError(Exception):
    """pgBackRest's message in one line. code: upstream's number of the error, 0 without one."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


def run(*arguments: str, timeout: float = 60) -> str:
    """The standard output of a command, run as pgBackRest's account; raises PgbackrestError."""
    try:
        done = bounded.run(
            ["pgbackrest", *QUIET, *arguments], timeout, cwd="/", env=ENVIRONMENT, **bounded.identity(ACCOUNT),
            errors="replace",  # with a wrong passphrase, messages quote what was not decrypted
        )  # fmt: skip
    except FileNotFoundError as error:
        raise PgbackrestError("pgBackRest is not installed on this host") from error
    except KeyError as error:
        raise PgbackrestError(f"there is no account {ACCOUNT} on this host") from error
    except subprocess.TimeoutExpired as error:
        raise PgbackrestError(f"pgbackrest {arguments[-1]} did not end within {timeout:g} s") from error
    if done.returncode:
        raise failure(done.stderr or done.stdout, done.returncode)
    return done.stdout


def failure(output: str, status: int) -> PgbackrestError:
    """The error of a command that failed, without its stack trace and process number."""
    match = ERROR.search(output)
    if not match:
        return PgbackrestError(" ".join(output.split())[:500] or f"pgbackrest ended with {status}", status)
    lines = [line.strip() for line in match[2].splitlines()]
    text = "; ".join(line for line in lines if line and not line.startswith(("P00", "P01", "--", "[")))
    return PgbackrestError(text[:500], int(match[1]))


def info(stanza: str, timeout: float = 60, *options: str) -> dict[str, Any]:
    """What the repository holds of the stanza: upstream's JSON of `info`; its status is a code and a message."""
    return parsed(run(f"--stanza={stanza}", "--output=json", *options, "info", timeout=timeout))


def parsed(output: str) -> dict[str, Any]:
    """The stanza in the output of info."""
    try:
        answer = json.loads(output, strict=False)  # a message may hold control characters
    except ValueError as error:
        raise PgbackrestError("`pgbackrest info` printed no valid JSON") from error
    return answer[0] if answer else {"status": {"code": 1, "message": "missing stanza path"}, "backup": [], "archive": []}


def complete(backups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The backups without an error, in their order."""
    return [backup for backup in backups if not backup.get("error")]


def segments(archive: Path, first: str) -> Iterator[Path]:
    """The WAL of a stanza in its repository from a segment on, as files whose names begin with the segment's."""
    for directory in archive.glob("*/*/"):  # beside them are the histories of timelines
        if directory.name >= first[:16]:
            yield from (path for path in directory.iterdir() if path.name[24:25] == "-" and path.name[:24] >= first)


def problem_of(held: dict[str, Any]) -> str:
    """Why info could not read the repository, in one line; empty if it could. The message may quote what was not decrypted."""
    if held["status"]["code"] != UNREADABLE:
        return ""
    messages = [repository["status"]["message"] for repository in held.get("repo") or [] if repository["status"]["code"]]
    text = (messages or [held["status"]["message"]])[0].splitlines()[0]
    return "".join(letter for letter in text if letter.isprintable())[:200]
