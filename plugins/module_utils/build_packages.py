"""Debian packages that a host has only while it builds: compilers and headers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

APT = ["apt-get", "--yes", "--quiet", "--option", "DPkg::Lock::Timeout=600"]
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "LC_ALL": "C.UTF-8"}
# Of apt's simulation: a package that is there already has its version in brackets after its name.
NEW = re.compile(r"^Inst (\S+) \(", re.MULTILINE)
REMOVED = re.compile(r"^(?:Remv|Purg) (\S+)", re.MULTILINE)
Run = Callable[[str, list[str]], str]


@contextmanager
def build_packages(names: list[str], record: Path, run: Run) -> Iterator[None]:
    """Install packages and what they need; afterwards remove what was not there before, unless another package needs it by then.

    record: file that keeps their names meanwhile: the next build removes what one that was cut off has left.
    run: runs a command, given what it does in words, and returns its output.
    """
    added = set(json.loads(record.read_text())) if record.exists() else set()
    if not names and not added:
        yield
        return
    os.environ |= ENVIRONMENT
    install = ["install", "--no-install-recommends", *names]
    added |= set(NEW.findall(run("looking for the build packages", [*APT, "--simulate", *install])))
    record.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: a run that is killed here must leave a record that the next one can read.
    written = record.with_suffix(".new")
    written.write_text(json.dumps(sorted(added)))
    written.replace(record)
    try:
        run("installing the build packages", [*APT, *install])
        yield
    except BaseException:
        with suppress(Exception):  # the record stays, and the first error is the one to show
            remove(added, record, run)
        raise
    remove(added, record, run)


def remove(added: set[str], record: Path, run: Run) -> None:
    listed = run("listing the packages", ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\\n"])
    there = {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")}
    going = sorted(added & there)
    shown = run("looking for what needs the build packages", [*APT, "--simulate", "purge", *going]) if going else ""
    # What was installed meanwhile may need some of them: then all stay.
    if going and set(REMOVED.findall(shown)) <= set(going):
        run("removing the build packages", [*APT, "purge", *going])
    record.unlink()
