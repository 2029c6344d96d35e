"""The application's package, as a release's programs find it: its metadata, entry points and console scripts.

A source is put on Python's path instead of being built, since a build would fetch tools that are not locked. What an installation
would write besides the code is written here, from the static part of C([project]) in pyproject.toml.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from .environments import site_packages

# The words of the packaging specifications. They become names of files and lines of them.
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
VERSION = re.compile(r"[0-9][A-Za-z0-9.!+_-]*")
SCRIPT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
OBJECT = re.compile(r"(?P<module>\w+(\.\w+)*)(\s*:\s*(?P<attribute>\w+(\.\w+)*))?(\s*\[[\w\s.,-]*\])?")
# Groups of entry points that are programs, and their keys in [project].
PROGRAMS = {"console_scripts": "scripts", "gui_scripts": "gui-scripts"}
PROGRAM = """\
#!{python}
import sys
from {module} import {imported}
sys.exit({attribute}())
"""


def write_own_package(environment: Path, venv: Path, source: Path) -> None:
    """Give the I(venv) of a release the package of its I(source).

    Nothing is written if its name or version is not static, or if the locked I(environment) or a wheel of the source brought a
    package of this name.
    """
    project = project_of(source / "pyproject.toml")
    name, version = text(project.get("name"), NAME), text(project.get("version"), VERSION)
    if not name or not version or is_installed(name, environment) or is_installed(name, venv):
        return
    groups = entry_points(project)
    about = site_packages(venv) / f"{normalized(name).replace('-', '_')}-{version.replace('-', '_')}.dist-info"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "INSTALLER": "grunnfjell\n",
        "entry_points.txt": "\n".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items()) for group, entries in groups.items()
        ),
    }
    about.mkdir()
    for file, content in (files | {"RECORD": "".join(f"{about.name}/{file},,\n" for file in (*files, "RECORD"))}).items():
        (about / file).write_text(content, encoding="utf-8")
    for group in PROGRAMS:
        for program, value in groups.get(group, {}).items():
            write_program(venv / "bin", program, OBJECT.fullmatch(value))


def project_of(file: Path) -> dict[str, Any]:
    """The table [project]; empty if it cannot be read, since no release needs it."""
    try:
        with file.open("rb") as content:
            return table(tomllib.load(content).get("project"))
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return {}


def table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def text(value: Any, pattern: re.Pattern[str]) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def is_installed(name: str, environment: Path) -> bool:
    installed = (path.name.partition("-")[0] for path in site_packages(environment).glob("*.dist-info"))
    return normalized(name) in map(normalized, installed)


def entry_points(project: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Group → name → object, of those that can be written."""
    given = {group: project.get(key) for group, key in PROGRAMS.items()} | table(project.get("entry-points"))
    groups = {
        group: {
            name: value
            for name, value in table(entries).items()
            if re.fullmatch(r"[^\s=\[][^\n=]*", name) and text(value, OBJECT)
        }
        for group, entries in given.items()
        if re.fullmatch(r"\w+(\.\w+)*", group)
    }
    return {group: entries for group, entries in groups.items() if entries}


def write_program(directory: Path, name: str, target: re.Match[str] | None) -> None:
    """A program that calls an object. One of a locked package with this name stays, as does the interpreter."""
    file = directory / name
    if not SCRIPT.fullmatch(name) or not target or not target["attribute"] or file.exists():
        return
    attribute = target["attribute"]
    file.write_text(
        PROGRAM.format(
            python=directory / "python", module=target["module"], imported=attribute.partition(".")[0], attribute=attribute
        ),
        encoding="utf-8",
    )
    file.chmod(0o755)
