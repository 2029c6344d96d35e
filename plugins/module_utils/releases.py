"""The releases of an application on its host: which are there, which is current, and which may go."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .environments import remove_unused

# Marks in a release's directory: its environment is whole; and its commands have succeeded too, so programs may run it.
BUILT, READY = ".built", ".ready"
# Files that name a release in use: processes, their supervisord sections, and the scripts that these call.
USES = ("proc/[0-9]*/cmdline", "etc/supervisor/conf.d/*.conf", "etc/supervisor/programs/*")


def releases_to_remove(ready: list[tuple[Any, str]], current: str, keep: int, used: set[str]) -> list[str]:
    """Of (age, release), the oldest beyond ``keep``; never the current one, nor one in use."""
    others = [release for _, release in sorted(ready, reverse=True) if release != current]
    return [release for release in others[max(keep - 1, 0) :] if release not in used]


def history_ending_at(history: list[str], release: str) -> list[str]:
    """The history once the release is current: later releases were rolled back, and are left out."""
    return history[: history.index(release) + 1] if release in history else [*history, release]


class Releases:
    """The releases of an application on its host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.link = root / "current"
        self.list = root / "history"

    @property
    def current(self) -> str:
        return Path(os.readlink(self.link)).name if self.link.is_symlink() else ""

    @property
    def history(self) -> list[str]:
        """Without pruned releases, and with a current one that is older than this file."""
        listed = self.list.read_text().split() if self.list.exists() else []
        ready = [name for name in listed if self.is_ready(name)]
        return history_ending_at(ready, self.current) if self.current else ready

    def is_built(self, name: str) -> bool:
        return (self.root / "releases" / name / BUILT).exists()

    def is_ready(self, name: str) -> bool:
        return (self.root / "releases" / name / READY).exists()

    def is_prepared(self, name: str, prepared_for: str) -> bool:
        """Whether the release's commands have run for this. The mark of an earlier kit does not say for what."""
        mark = self.root / "releases" / name / READY
        return mark.exists() and json.loads(mark.read_text()).get("prepared_for") == prepared_for

    def mark_ready(self, name: str, prepared_for: str) -> None:
        mark = json.dumps({"release": name, "prepared_for": prepared_for}) + "\n"
        self.replace(self.root / "releases" / name / READY, lambda path: path.write_text(mark))

    def switch(self, name: str) -> None:
        history = history_ending_at(self.history, name)
        self.replace(self.list, lambda path: path.write_text("\n".join(history) + "\n"))
        self.replace(self.link, lambda path: path.symlink_to(self.root / "releases" / name))

    @staticmethod
    def replace(path: Path, make: Callable[[Path], object]) -> None:
        new = path.with_name(f".{path.name}")
        new.unlink(missing_ok=True)
        make(new)
        new.replace(path)

    def prune(self, keep: int) -> None:
        built = {file.parent.name: file.stat().st_mtime for file in self.root.glob(f"releases/*/{READY}")}
        history = self.history
        # Releases that were never current, or were rolled back, are removed before those that a rollback may need.
        ready = [((history.index(name) if name in history else -1, time), name) for name, time in built.items()]
        for name in releases_to_remove(ready, self.current, keep, self.used()):
            shutil.rmtree(self.root / "releases" / name)
        remove_unused(self.root)

    def remove_unfinished(self) -> None:
        """Removes what an earlier run built and never finished."""
        for path in self.root.glob("releases/*"):
            if not self.is_ready(path.name):
                shutil.rmtree(path)

    def used(self) -> set[str]:
        """Releases that a program runs, or would run after a restart."""
        names = [file.parent.name for file in self.root.glob(f"releases/*/{READY}")]
        return named(self.root / "releases", names)


def prune_settings(directory: Path, version: str) -> None:
    """Keeps only the new version and those in use, since they hold secrets."""
    names = [path.name for path in (directory / "versions").glob("*") if path.name != version]
    for name in set(names) - named(directory / "versions", names):
        shutil.rmtree(directory / "versions" / name)


def named(directory: Path, names: list[str]) -> set[str]:
    """The names whose path is in a process's command line or in a program's configuration."""
    texts = []
    for file in (file for pattern in USES for file in Path("/").glob(pattern)):
        try:
            texts.append(file.read_bytes())
        except OSError:  # the process has ended
            continue
    return {name for name in names if any(bytes(directory / name) in text for text in texts)}
