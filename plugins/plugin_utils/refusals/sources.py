"""The sources of the fleet's applications: unusable ones, and those that need another Python."""

from __future__ import annotations

from typing import Any

from ..fleet.model import Fleet
from ..fleet.source import DEBIANS_PYTHON, SourceError, requires_python, source_of
from .machines import outdated_pythons


def pinned_sources(fleet: Fleet) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Host to its application's source (a branch as its commit) and identity; sentences. Checks each source once."""
    sentences: dict[str, None] = {}
    specifiers: dict[str, str | None] = {}
    releases: dict[str, dict[str, Any]] = {}
    pinned: dict[str, dict[str, Any]] = {}
    wanted: dict[str, str] = {}
    for host in fleet.with_role("application"):
        source, lock = host.inputs.get("application_source"), host.inputs.get("application_requirements")
        if not isinstance(source, dict) or not isinstance(lock, str) or not host.measured:
            continue
        python = host.inputs.get("application_python")
        if isinstance(python, str) and python != DEBIANS_PYTHON:
            if not python.startswith("/"):
                sentences[
                    f"{host.name}: application_python is {python}, but must be the absolute path of an interpreter on the host, "
                    f"e.g. /usr/bin/python3. Correct it."
                ] = None
            source = source | {"python": python}
        key = f"{sorted(source.items())} {lock}"
        try:
            if key not in specifiers:
                specifiers[key] = None  # report a wrong source once
                release = source_of(source, lock)
                version = {"version": release.commit} if release.commit else {}
                releases[key] = {"source": source | version, "identity": release.identity}
                specifiers[key] = requires_python(source, lock)
        except SourceError as error:
            sentences[str(error)] = None
        pinned[host.name] = releases.get(key, {})
        # The version of another Python is known only once it is installed.
        if (specifier := specifiers[key]) and "python" not in source:
            wanted[host.name] = specifier
    return pinned, [*sentences, *outdated_pythons(fleet, wanted)]
