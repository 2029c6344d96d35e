"""Makes services read their files, and records on the host which content they have read.

A record is removed before its file changes and written after the reader's command succeeded. A run that is interrupted in
between leaves no record, or one of another content, so the next run makes the service read the file. A service that can report
which content it has read is queried instead, and has no record.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Below the name of the role that every host has.
RECORDS = Path("/var/lib/grunnfjell/host/in_force")


class NotInForce(Exception):
    """Why a file is not in force, as a sentence."""


@dataclass(frozen=True)
class Reader:
    """command: makes the service read the file.  effective: what the service's parser must print before that, or empty.

    running: query of what the service has read (command, input, line, seconds, hint), or empty.
    """

    path: str
    content: str
    command: str
    effective: dict[str, Any]
    running: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.command}\n{self.content}".encode()).hexdigest()


def call(command: str) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise NotInForce(f"{words[0]} is not installed on this host. Add its package to host_packages.") from error


def record_of(path: str) -> Path:
    return RECORDS / re.sub(r"[^A-Za-z0-9.@_-]+", "-", path).strip("-")


def answers(running: dict[str, Any]) -> bool:
    """Whether the service's answer shows that it has read the file."""
    words = shlex.split(running["command"])
    try:
        done = subprocess.run(
            words, input=running["input"], capture_output=True, text=True, check=False, timeout=running["seconds"]
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False  # not installed yet, or stuck
    return running["line"] in done.stdout.splitlines()


def refuse_unread(reader: Reader) -> None:
    """Waits for the service, since a reload may end before it has read its files."""
    deadline = time.monotonic() + reader.running["seconds"]
    while not answers(reader.running):
        if time.monotonic() > deadline:
            raise NotInForce(
                f"`{reader.command}` ran, but after {reader.running['seconds']} s the service has not read {reader.path}: "
                f"`{reader.running['command']}` does not print `{reader.running['line']}`. {reader.running['hint']}"
            )
        time.sleep(0.1)


def is_read(reader: Reader) -> bool:
    if reader.running:
        return answers(reader.running)
    record = record_of(reader.path)
    return record.is_file() and record.read_text(encoding="utf-8") == reader.digest


def forget(path: str) -> None:
    record_of(path).unlink(missing_ok=True)


def by_key(lines: list[str]) -> dict[str, set[str]]:
    """Lines by their first word."""
    grouped: dict[str, set[str]] = {}
    for line in lines:
        grouped.setdefault(line.partition(" ")[0], set()).add(line)
    return grouped


def refuse_overridden(reader: Reader) -> None:
    """Asks the service's parser: another file may take precedence, or ours may not be included."""
    wanted = by_key(reader.effective.get("lines", []))
    for command in reader.effective.get("commands", []):
        answer = call(command)
        if answer.returncode:
            raise NotInForce(f"`{command}` ended with {answer.returncode}: {(answer.stderr or answer.stdout).strip()}")
        effective = by_key(answer.stdout.splitlines())
        for key, lines in wanted.items():
            if (answers := effective.get(key, set())) != lines:
                raise NotInForce(
                    f"{reader.path} has `{'; '.join(sorted(lines))}`, but `{command}` prints "
                    f"`{'; '.join(sorted(answers)) or f'no {key}'}`. {reader.effective['hint']} Nothing was reloaded."
                )


def have_read(readers: list[Reader]) -> None:
    """Runs each command once, whatever its number of files, and then writes their records."""
    for command in dict.fromkeys(reader.command for reader in readers):
        done = call(command)
        paths = [reader.path for reader in readers if reader.command == command]
        if done.returncode:
            raise NotInForce(
                f"{', '.join(paths)} is written, but `{command}` failed, so it is not in force: "
                f"{(done.stderr or done.stdout).strip()}. The next run tries again."
            )
    RECORDS.mkdir(parents=True, exist_ok=True)
    for reader in readers:
        if reader.running:
            refuse_unread(reader)
        else:
            record_of(reader.path).write_text(reader.digest, encoding="utf-8")
