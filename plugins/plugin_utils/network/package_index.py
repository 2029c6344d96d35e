"""The servers of pip's default index, from the control machine's pip, so no file of the kit names them."""

from __future__ import annotations

import functools
import subprocess
import sys
from urllib.parse import urlsplit

from ..fleet.model import Host

ASK_PIP = "from pip._internal.models.index import PyPI; print(PyPI.simple_url, 'https://' + PyPI.file_storage_domain)"


@functools.cache
def default_urls() -> tuple[str, ...]:
    """URLs of the index and of its files; empty if no Python of this machine has pip."""
    for python in (sys.executable, "python3"):
        try:
            done = subprocess.run([python, "-c", ASK_PIP], text=True, capture_output=True, check=False, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return tuple(done.stdout.split())
    return ()


def default_servers() -> list[str]:
    return [name for url in default_urls() if (name := urlsplit(url).hostname)]


def installs_packages(host: Host) -> bool:
    """Whether the host itself fetches the packages of an application."""
    return "application" in host.roles and host.inputs.get("application_requirements_from") != "control"
