"""The files of an application's source: which belong to the release, and what cannot."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

LEFT_OUT = {".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", "node_modules"}
IDENTITY_LENGTH = 12  # hexadecimal digits: 48 bits, enough for the releases of one application
# How the file begins that git keeps in place of one in Git LFS.
POINTER = b"version https://git-lfs.github.com/spec/"


class SourceError(Exception):
    """What is wrong with the source and what to edit, as a sentence."""


def files_of(directory: Path) -> list[Path]:
    """Every file of the content, in a fixed order, those behind links within it too."""
    home, found = directory.resolve(), []
    for folder, folders, names in os.walk(directory, followlinks=True):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in (*folders, *names):
            path = Path(folder, name)
            if path.is_symlink() and name not in LEFT_OUT:
                refuse_unsound_link(path, directory, home)
        found += [path for name in names if name not in LEFT_OUT and (path := Path(folder, name)).is_file()]
    for path in found:
        with path.open("rb") as content:
            if content.read(len(POINTER)) == POINTER:
                raise SourceError(
                    f"The source holds {path.relative_to(directory)} as a pointer of Git LFS, without its content. Install "
                    f"git-lfs on this machine (`git lfs install`), or keep the file in git."
                )
    return sorted(found)


def refuse_unsound_link(path: Path, directory: Path, home: Path) -> None:
    """A link out of the source could bring any file of this machine to the hosts; one to its own parent would never end."""
    target = path.resolve()
    if not target.exists():
        why = "which does not exist"
    elif not target.is_relative_to(home):
        why = "outside the source"
    elif any(parent.resolve() == target for parent in path.parents):
        why = "which contains the link"
    else:
        return
    raise SourceError(
        f"The source holds the link {path.relative_to(directory)} to {os.readlink(path)}, {why}. Put a file or a directory of "
        f"the source in its place."
    )


def digest_of(directory: Path) -> str:
    """Identity of a tree by the names, the executable bits and the bytes of its files."""
    digest = hashlib.sha256()
    for file in files_of(directory):
        executable = "x" if file.stat().st_mode & 0o100 else "-"
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(directory)}\0{executable}\0{content}\n".encode())
    return digest.hexdigest()[:IDENTITY_LENGTH]
