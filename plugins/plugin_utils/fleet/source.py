"""The source of an application's code: its identity, and the archive for its hosts."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import tomllib
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .source_files import IDENTITY_LENGTH, SourceError, digest_of, files_of

# The default of application_python. A release for another interpreter is another release.
DEBIANS_PYTHON = "/usr/bin/python3"
# Timeouts: without data from an archive's server, for a download, and for a git command.
SILENT_SECONDS, DOWNLOAD_SECONDS, GIT_SECONDS = 30, 1800, 600
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """identity: hash of the content in hexadecimal.  tree: context manager that yields a directory with the content.

    commit: the commit of a git branch or tag.
    """

    identity: str
    tree: Callable[[], Iterator[Path]]
    commit: str | None = None

    def pack(self, artifact: Path) -> None:
        """Writes the content as a reproducible .tar.gz."""
        with (
            self.tree() as directory,
            artifact.open("wb") as raw,
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", dereference=True) as archive,
        ):
            for file in files_of(directory):
                entry = archive.gettarinfo(file, str(file.relative_to(directory)))
                entry.mtime = entry.uid = entry.gid = 0
                entry.uname = entry.gname = "root"
                # A checkout's modes depend on a umask, and a service could not read 0600 of root. digest_of uses the same bit.
                entry.mode = 0o755 if entry.mode & 0o100 else 0o644
                with file.open("rb") as content:
                    archive.addfile(entry, content)


def from_directory(directory: Path, subdirectory: str) -> Source:
    if not directory.is_dir():
        raise SourceError(f"application_source.directory is {directory}, which is not a directory. Edit it in the inventory.")
    part = part_of(directory, subdirectory)

    @contextmanager
    def tree() -> Iterator[Path]:
        yield part

    return Source(digest_of(part), tree)


def part_of(directory: Path, subdirectory: str) -> Path:
    part = directory / subdirectory
    if not part.is_dir() or not part.resolve().is_relative_to(directory.resolve()):
        raise SourceError(
            f"application_source.subdirectory is {subdirectory}, which is no directory of the source. Edit it in the inventory."
        )
    return part


def in_part(source: Source, subdirectory: str) -> Source:
    """The same source, of which the release is one directory. Another directory of it is another release."""
    if not subdirectory:
        return source

    @contextmanager
    def tree() -> Iterator[Path]:
        with source.tree() as directory:
            yield part_of(directory, subdirectory)

    identity = hashlib.sha256(f"{source.identity} {subdirectory}".encode()).hexdigest()[:IDENTITY_LENGTH]
    return Source(identity, tree, source.commit)


def from_wheel(wheel: Path, requirements: str) -> Source:
    lock = wheel.parent / requirements
    for file in (wheel, lock):
        if not file.is_file():
            raise SourceError(
                f"The wheel's release needs {file}, which does not exist. Edit application_source or application_requirements."
            )
    identity = hashlib.sha256(wheel.read_bytes() + lock.read_bytes()).hexdigest()[:IDENTITY_LENGTH]

    @contextmanager
    def tree() -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as scratch:
            for file, name in ((wheel, wheel.name), (lock, requirements)):
                (Path(scratch) / name).write_bytes(file.read_bytes())
            yield Path(scratch)

    return Source(identity, tree)


def sha256_of(checksum: str | None) -> str | None:
    """The 64 small hexadecimal digits of a checksum, which may have capitals and the prefix C(sha256:)."""
    digits = (checksum or "").strip().lower().removeprefix("sha256:")
    if checksum and not re.fullmatch("[0-9a-f]{64}", digits):
        raise SourceError(
            f"application_source.checksum is {checksum}, which is not a SHA-256 (64 hexadecimal digits). Correct it."
        )
    return digits or None


def from_archive(archive: str, checksum: str | None) -> Source:
    checksum = sha256_of(checksum)
    remote = archive.startswith(("http://", "https://"))
    if remote and not checksum:
        raise SourceError(
            f"application_source.archive is the URL {archive}, so application_source.checksum must give its SHA-256."
        )
    if not remote and not Path(archive).is_file():
        raise SourceError(f"application_source.archive is {archive}, which does not exist. Edit it in the inventory.")
    actual = checksum if remote else hashlib.sha256(Path(archive).read_bytes()).hexdigest()
    if checksum and actual != checksum:
        raise SourceError(
            f"application_source.archive {archive} has the SHA-256 {actual}, but application_source.checksum is {checksum}."
        )

    @contextmanager
    def tree() -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as scratch:
            file, content = Path(archive), Path(scratch) / "content"
            if remote:
                file = Path(scratch) / "archive"
                download(archive, file)
                if hashlib.sha256(file.read_bytes()).hexdigest() != checksum:
                    raise SourceError(
                        f"The file at {archive} does not have the SHA-256 {checksum} of application_source.checksum."
                    )
            content.mkdir()
            unpack(file, content)
            yield the_only_directory(content)

    return Source(actual[:IDENTITY_LENGTH], tree)


def download(url: str, file: Path) -> None:
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    try:
        with urllib.request.urlopen(url, timeout=SILENT_SECONDS) as reply, file.open("wb") as written:
            while chunk := reply.read(CHUNK_BYTES):
                written.write(chunk)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"it took longer than {DOWNLOAD_SECONDS} s")
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"application_source.archive {url} cannot be fetched: {error}. Correct it, or try again.") from error


def unpack(archive: Path, directory: Path) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(directory)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as packed:
            # Debian 12's Python 3.11.2 has no filters yet.
            packed.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            packed.extractall(directory)
    else:
        raise SourceError(f"application_source.archive {archive} is neither a tar nor a zip archive.")


def the_only_directory(directory: Path) -> Path:
    """The directory that wraps a release archive's content, if there is one."""
    entries = list(directory.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else directory


def from_git(url: str, version: str) -> Source:
    def git(*argv: str) -> str:
        if shutil.which("git") is None:
            raise SourceError(f"application_source.git is {url}, but this machine has no git. Install it (apt install git).")
            # No password prompt, since nobody could answer it.
        options = {"stdin": subprocess.DEVNULL, "env": os.environ | {"GIT_TERMINAL_PROMPT": "0"}, "timeout": GIT_SECONDS}
        try:
            done = subprocess.run(["git", *argv], capture_output=True, text=True, check=False, **options)
        except subprocess.TimeoutExpired:
            raise SourceError(
                f"application_source.git {url} at {version}: git {argv[0]} did not end within {GIT_SECONDS} s. Check that this "
                f"machine can reach it."
            ) from None
        if done.returncode:
            raise SourceError(f"application_source.git {url} at {version}: git {argv[0]} failed: {done.stderr.strip()}")
        return done.stdout

    commit = version.lower()
    if not re.fullmatch("[0-9a-f]{40}", commit):
        # An annotated tag lists twice; its ^{} line is the commit.
        refs = dict(reversed(line.split("\t")) for line in git("ls-remote", url, version, f"{version}^{{}}").splitlines())
        names = (f"refs/tags/{version}^{{}}", f"refs/tags/{version}", f"refs/heads/{version}", version)
        commit = next((refs[name] for name in names if name in refs), "")
        if not commit:
            # A server looks up branches and tags, and whole commits.
            short = re.fullmatch("[0-9a-fA-F]{7,39}", version)
            remedy = "Write all 40 digits of the commit into" if short else "Edit"
            raise SourceError(
                f"application_source.git {url} has no branch, tag or commit {version}. {remedy} application_source.version."
            )

    @contextmanager
    def tree() -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as scratch:
            git("-C", scratch, "init", "--quiet")
            # The filter of Git LFS downloads from this remote during the checkout, and relative addresses of submodules are
            # relative to it.
            git("-C", scratch, "remote", "add", "origin", url)
            git("-C", scratch, "fetch", "--quiet", "--depth", "1", url, commit)
            git("-C", scratch, "-c", "advice.detachedHead=false", "checkout", "--quiet", "FETCH_HEAD")
            if (Path(scratch) / ".gitmodules").exists():
                git("-C", scratch, "submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1")
            yield Path(scratch)

    return Source(commit[:IDENTITY_LENGTH], tree, commit)


def requires_python(source: dict[str, str], requirements: str) -> str | None:
    """requires-python of a source that is a directory; None if it has none."""
    if not source.get("directory"):
        return None
    directory = part_of(Path(source["directory"]), source.get("subdirectory") or "")
    if not (directory / requirements).is_file():
        raise SourceError(
            f"application_requirements is {requirements}, which does not exist in {directory}. "
            f"Lock the application's requirements there, or correct application_requirements."
        )
    project = directory / "pyproject.toml"
    try:
        return tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("requires-python")
    except FileNotFoundError:
        return None
    except tomllib.TOMLDecodeError as error:
        raise SourceError(f"{project} is not TOML: {error}. Correct it.") from None


def source_of(source: dict[str, str], requirements: str) -> Source:
    """The source that ``application_source`` describes; with the key python, its release for that interpreter."""
    python = source.get("python") or DEBIANS_PYTHON
    release = described(source, requirements)
    if python == DEBIANS_PYTHON:
        return release
    identity = hashlib.sha256(f"{release.identity} {python}".encode()).hexdigest()[:IDENTITY_LENGTH]
    return Source(identity, release.tree, release.commit)


def described(source: dict[str, str], requirements: str) -> Source:
    subdirectory = source.get("subdirectory") or ""
    if source.get("directory"):
        return from_directory(Path(source["directory"]), subdirectory)
    if source.get("wheel"):
        return from_wheel(Path(source["wheel"]), requirements)
    if source.get("archive"):
        return in_part(from_archive(source["archive"], source.get("checksum")), subdirectory)
    if source.get("git"):
        return in_part(from_git(source["git"], source.get("version") or "HEAD"), subdirectory)
    raise SourceError("application_source names none of directory, archive, wheel and git. Edit it in the inventory.")


def refuse_change(source: Source, identity: str | None) -> None:
    """A run must send the same release to all hosts."""
    if identity not in (None, source.identity):
        raise SourceError(
            f"application_source changed while this run was under way: it was {identity} when the fleet was checked, and is "
            f"{source.identity} now. Run again."
        )
