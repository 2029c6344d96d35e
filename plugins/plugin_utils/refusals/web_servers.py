"""Named web servers of a producer (producer_programs) that supervisord or nginx could not run as their inventory means."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..fleet.inputs import whole
from ..fleet.model import Fleet, Host
from ..sizing.producer import named_servers, server_at
from .programs import PROGRAM_NAME, tls_arguments

# A Unix socket's path has at most 107 characters, and 30 of them are the same for every server.
NAME_LONGEST = 64
# What nginx takes literally. It resolves the segments . and .. of a request before it compares.
PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+/?")
# One process serves while the other is replaced, as for producer_workers.
WORKERS_LEAST = 2


def malformed_web_servers(fleet: Fleet) -> Iterator[str]:
    for host in fleet.with_role("producer"):
        for server in named_servers(host):
            name, path = str(server.get("name")), str(server.get("path"))
            if not PROGRAM_NAME.fullmatch(name) or len(name) > NAME_LONGEST:
                yield (
                    f"{host.name}: producer_programs names '{name}', but supervisord and its socket take only letters, digits, "
                    f"'.', '_' and '-', and at most {NAME_LONGEST} of them. Rename it."
                )
            if path == "/":
                yield (
                    f"{host.name}: the web server '{name}' has the path '/', but that is the main one's (producer_command). "
                    f"Edit its path in producer_programs."
                )
            elif not PATH.fullmatch(path):
                yield (
                    f"{host.name}: the web server '{name}' has the path '{path}', but it must begin with '/' and have only "
                    f"letters, digits, '.', '_', '~' and '-' between slashes, since nginx reads others differently. "
                    f"Edit its path in producer_programs."
                )
            workers = whole(server.get("workers"))
            if workers is not None and workers < WORKERS_LEAST:
                yield (
                    f"{host.name}: the web server '{name}' has {workers} workers, but needs at least {WORKERS_LEAST}: one serves "
                    f"while the other is replaced. Raise its workers in producer_programs."
                )
            yield from tls_arguments(host, f"the command of the web server '{name}'", server.get("command"))


def shadowed_web_servers(fleet: Fleet) -> Iterator[str]:
    """Servers that share a name or a path, and health checks that nginx would pass to another server."""
    for host in fleet.with_role("producer"):
        servers = named_servers(host)
        for name in repeated(str(server.get("name")) for server in servers):
            yield f"{host.name}: producer_programs names '{name}' twice. Give each web server a different name."
        # Requests for /ws belong to another server than those for /ws/, except where both paths are taken.
        for path in repeated(path for server in servers if (path := str(server.get("path")).rstrip("/"))):
            yield (
                f"{host.name}: producer_programs has the path '{path}' twice, with or without a slash at its end, and nginx can "
                f"pass its requests to one server only. Edit one of the paths."
            )
        yield from misdirected_checks(host, servers)


def repeated(values: Iterator[str]) -> list[str]:
    return sorted(value for value, times in Counter(values).items() if times > 1)


def misdirected_checks(host: Host, servers: list[dict[str, Any]]) -> Iterator[str]:
    main = {"name": "", "path": "/"}
    named = [server for server in servers if PATH.fullmatch(str(server.get("path")))]
    for server in named:
        health = str(server.get("health_path"))
        if not health.startswith(server["path"]):
            yield (
                f"{host.name}: the web server '{server.get('name')}' has the health_path '{health}', but nginx passes it only "
                f"what begins with its path '{server['path']}'. Edit its health_path in producer_programs."
            )
        elif (reached := server_at([main, *named], health))["path"] != server["path"]:
            yield (
                f"{host.name}: the web server '{server.get('name')}' has the health_path '{health}', but nginx would pass it to "
                f"the web server '{reached.get('name')}'. Edit its health_path in producer_programs."
            )
    health = str(host.inputs.get("producer_health_path", ""))
    if health.startswith("/") and (reached := server_at([main, *named], health)) is not main:
        yield (
            f"{host.name}: producer_health_path is '{health}', but nginx would pass it to the web server "
            f"'{reached.get('name')}', whose path is '{reached['path']}'. Edit producer_health_path or that path."
        )
