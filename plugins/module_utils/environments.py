"""The Python environments of an application on its host: one per lock, shared by the releases that have this lock."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

# A release's link to its environment.
LINK = "environment"
# Each release has its own.
OWN = {"bin", "lib", "lib64", "include", "pyvenv.cfg"}


# Debian's, of which each release has one.
DEBIANS_PYTHON = "/usr/bin/python3"
# Printed by the interpreter itself, which may be another one than the module's. The markers are PEP 508's.
ASK_PYTHON = """
import json, os, platform, sys
version = sys.implementation.version
print(json.dumps({
    "tag": sys.implementation.cache_tag,
    "libc": platform.libc_ver(),
    "markers": {
        "implementation_name": sys.implementation.name, "implementation_version": "%d.%d.%d" % version[:3], "os_name": os.name,
        "platform_machine": platform.machine(), "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(), "platform_system": platform.system(), "platform_version": platform.version(),
        "python_full_version": platform.python_version(), "python_version": "%d.%d" % sys.version_info[:2],
        "sys_platform": sys.platform,
    },
}))
"""


def platform_of(python: str) -> dict[str, Any]:
    """What compiled packages and a lock's conditions depend on: C(python), C(tag), C(libc) (name and version), C(markers)."""
    done = subprocess.run([python, "-c", ASK_PYTHON], check=True, capture_output=True, text=True, timeout=60, cwd="/")
    return {"python": python} | json.loads(done.stdout)


def environment_name(lock: bytes, platform: dict[str, Any]) -> str:
    """Changes with the lock and what compiled packages depend on: Python, the processor and, unless Python is Debian's, libc."""
    python = f"{platform['tag']} {platform['markers']['platform_machine']}"
    if platform["python"] != DEBIANS_PYTHON:
        python += f" {platform['python']} {platform['libc']}"
    return hashlib.sha256(python.encode() + b"\0" + lock).hexdigest()[:12]


def site_packages(environment: Path) -> Path:
    return next(environment.glob("lib/py*/site-packages"))  # python3.13, pypy3.11


def lay_over(environment: Path, venv: Path, source: Path) -> None:
    """Let a new, empty environment have the packages and programs of another one, and the source after them.

    A directory src of the source, if it is no package itself, holds its packages.
    """
    lines = [f"import site; site.addsitedir({str(site_packages(environment))!r})", str(source)]
    if (source / "src").is_dir() and not (source / "src/__init__.py").exists():
        lines.append(str(source / "src"))
    (site_packages(venv) / "application.pth").write_text("\n".join(lines) + "\n")
    for file in sorted((environment / "bin").iterdir()):
        link = venv / "bin" / file.name
        if file.is_dir() or link.exists():
            continue  # its own Python and scripts
        content = file.read_bytes()
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
