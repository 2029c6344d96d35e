"""Celery's configuration as files and addresses."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from ..fleet.model import bracketed


def python_literal(value: Any) -> str:
    """The value as Python source that reads back as equal; YAML's types are all that occur."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{python_literal(key)}: {python_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(python_literal(item) for item in value) + "]"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return repr(str(value))  # str(): Ansible's strings carry tags that do not belong in a file


def broker_url(hosts: list[str], port: int, user: str, password: str, vhost: str) -> str:
    """Celery's broker_url: one address per broker, tried in turn.

    pyamqp by name: amqp:// would prefer librabbitmq where it is installed, which has no TLS and no confirms.
    """
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return ";".join(f"pyamqp://{login}@{bracketed(host)}:{port}/{quote(vhost, safe='')}" for host in hosts)


def fingerprint(value: Any) -> str:
    """Twelve hexadecimal digits that change whenever anything in the value does; says nothing of secrets in it."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def settings_contents(contents: dict[str, str], directories: list[str]) -> dict[str, str]:
    """Path to content, of every file in every directory."""
    return {f"{directory}/{name}": content for directory in directories for name, content in contents.items()}


def settings_files(contents: dict[str, str], directories: list[str], group: str) -> list[dict[str, str]]:
    """The files as managed_files takes them: nobody but root and the application's account reads them."""
    return [{"path": path, "group": group, "mode": "0640"} for path in settings_contents(contents, directories)]
