"""Celery's configuration as files and addresses."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from ..fleet.model import bracketed


def python_literal(value: Any) -> str:
    """The value as Python source; supports YAML's types."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{python_literal(key)}: {python_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(python_literal(item) for item in value) + "]"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return repr(str(value))  # str(): Ansible's strings carry tags that do not belong in a file


def broker_url(hosts: list[str], port: int, user: str, password: str, vhost: str) -> str:
    """Celery's broker_url: one address per broker, tried in turn.

    pyamqp, since amqp:// would prefer an installed librabbitmq, which has no TLS and no confirms.
    """
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return ";".join(f"pyamqp://{login}@{bracketed(host)}:{port}/{quote(vhost, safe='')}" for host in hosts)


def fingerprint(value: Any) -> str:
    """Twelve hexadecimal digits of a hash of the value, which does not reveal secrets in it."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def settings_contents(contents: dict[str, str], directories: list[str]) -> dict[str, str]:
    """Path to content, of every file in every directory."""
    return {f"{directory}/{name}": content for directory in directories for name, content in contents.items()}


def settings_files(contents: dict[str, str], directories: list[str], group: str) -> list[dict[str, str]]:
    """The files for managed_files, readable only by root and the application's account."""
    return [{"path": path, "group": group, "mode": "0640"} for path in settings_contents(contents, directories)]
