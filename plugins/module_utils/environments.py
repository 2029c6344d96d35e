"""The Python environments of an application on its host: one per lock, shared by the releases that have this lock."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path

# A release's link to its environment.
LINK = "environment"
# Each release has its own.
OWN = {"bin", "lib", "lib64", "include", "pyvenv.cfg"}


def environment_name(lock: bytes) -> str:
    """Changes with the lock, with Debian's Python and with the processor: compiled packages depend on them."""
    python = f"{sys.implementation.cache_tag} {platform.machine()}"
    return hashlib.sha256(python.encode() + b"\0" + lock).hexdigest()[:12]


def site_packages(environment: Path) -> Path:
    return next(environment.glob("lib/python3*/site-packages"))


def lay_over(environment: Path, venv: Path, source: Path) -> None:
    """Let a new, empty environment have the packages and programs of another one, and the source after them.

    A directory src of the source, if it is no package itself, holds its packages.
    """
    lines = [f"import site; site.addsitedir({str(site_packages(environment))!r})", str(source)]
    if (source / "src").is_dir() and not (source / "src/__init__.py").exists():
        lines.append(str(source / "src"))
    (site_packages(venv) / "application.pth").write_text("\n".join(lines) + "\n")
    for file in sorted((environment / "bin").iterdir()):
        if file.is_dir() or file.name.startswith(("python", "activate", "Activate")):
            continue
        link, content = venv / "bin" / file.name, file.read_bytes()
        if content.startswith(b"#!"):
            # Begun by the release's interpreter, which finds the source.
            link.write_bytes(content.replace(f"{environment}/bin/".encode(), f"{venv}/bin/".encode()))
            link.chmod(0o755)
        else:
            link.symlink_to(file)
    for file in environment.iterdir():
        if file.name not in OWN and not file.name.startswith("."):
            (venv / file.name).symlink_to(file)


def remove_unused(root: Path) -> None:
    """Of the environments below I(root), those that no release has."""
    used = {Path(os.readlink(link)).name for link in root.glob(f"releases/*/{LINK}")}
    for path in root.glob("environments/*"):
        if path.name not in used:
            shutil.rmtree(path)
