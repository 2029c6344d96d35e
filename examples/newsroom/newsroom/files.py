"""The jobs' files on this host's disk. A name appears only when its content is complete and on the disk."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from newsroom.keys import is_key

UPLOAD, VIDEO, POSTER = "upload", "video.mp4", "poster.jpg"
RESULTS = {VIDEO: "video/mp4", POSTER: "image/jpeg"}
NAMES = (UPLOAD, *RESULTS)
CHUNK = 256 * 1024


class TooLarge(Exception):
    pass


class Store:
    def __init__(self, data_dir: Path) -> None:
        self.jobs = data_dir / "videos"
        self.incoming = data_dir / "incoming"

    def path(self, key: str, name: str) -> Path:
        # Both come from outside: anything but a key and a known name could lead out of the folder.
        if not is_key(key) or name not in NAMES:
            raise FileNotFoundError(f"{key}/{name}")
        return self.jobs / key / name

    def uploads(self) -> list[str]:
        """The keys of all uploads, the oldest first."""
        return sorted(path.parent.name for path in self.jobs.glob(f"*/{UPLOAD}") if is_key(path.parent.name))

    @contextmanager
    def receive(self) -> Iterator[Path]:
        """An empty file for an upload; it is removed at the end."""
        self.incoming.mkdir(parents=True, exist_ok=True)
        # Files of killed processes would stay for ever; no upload takes a day.
        sweep(self.incoming, older_than_s=24 * 3600)
        handle, name = tempfile.mkstemp(dir=self.incoming)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def keep(self, received: Path, key: str, name: str) -> bool:
        """Give a received file its name; returns whether the name was free. A taken name keeps its first content."""
        target = self.path(key, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(received, target)
        except FileExistsError:
            return False
        for folder in (target.parent, self.jobs):
            sync(folder)
        return True

    def forget(self, key: str) -> None:
        shutil.rmtree(self.path(key, UPLOAD).parent, ignore_errors=True)


def write(chunks: Iterable[bytes], path: Path, limit: int) -> int:
    """Write the chunks through to the disk; returns their size. More than `limit` bytes raise TooLarge."""
    size = 0
    with path.open("wb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"more than {limit} bytes")
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return size


def sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path, older_than_s: float) -> None:
    for entry in folder.iterdir():
        try:
            if entry.stat().st_mtime > time.time() - older_than_s:
                continue
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        except FileNotFoundError:
            pass  # another process was faster
