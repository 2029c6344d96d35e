"""The web servers of a host, their processes and their memory."""

from __future__ import annotations

from typing import Any

from ..fleet.inputs import mappings, number, whole
from ..fleet.model import Host
from ..fleet.units import MIB, mib
from .celery import fingerprint

# Measured as capacity/memory.py says: 12 MiB; a resident set of 24.
GUNICORN_MAIN = 24 * MIB
# nginx's parent and two processes, and those of a former reload: 6 MiB each time.
NGINX = 16 * MIB
# A client that stalls within its body, or does not take its answer: 34 KiB with TLS, of 1000 at once.
NGINX_CONNECTION = 48 * 1024


def producer_servers(programs: list[dict[str, Any]], main: dict[str, Any]) -> list[dict[str, Any]]:
    """The main web server and those of producer_programs: each with its inputs, files, and section for program_sections.

    main: keys as in producer_programs, without a name; its workers are those of a program that leaves them out.
    """
    servers = [_server("producer", main, main["workers"])]
    return servers + [_server(f"producer-{program['name']}", program, main["workers"]) for program in programs]


def _server(program: str, inputs: dict[str, Any], workers: int) -> dict[str, Any]:
    script, socket = f"/etc/supervisor/programs/{program}", f"/run/grunnfjell-{program}.sock"
    return {
        "program": program,
        "path": inputs["path"],
        "health_path": inputs["health_path"],
        "command": inputs["command"],
        "workers": inputs.get("workers") or workers,
        "script": script,
        "socket": socket,
        "section": {
            "name": program,
            "kind": "fcgi-program",
            "log": f"{program}_%(process_num)d",
            "command": f"{script} %(process_num)d",
            "settings": {"socket": f"unix://{socket}"},
        },
    }


def producer_handovers(servers: list[dict[str, Any]], drafts: list[str], release: str) -> list[dict[str, str]]:
    """Programs for supervisor_handover.

    drafts: the script of each server, with @fingerprint@.  release: the fingerprint of the application. That of a server covers
        its script too, so any change in it hands over.
    """
    return [
        {
            "program": server["program"],
            "path": server["script"],
            "content": draft.replace("@fingerprint@", fingerprint([draft, release])),
            "health": server["health_path"],
        }
        for server, draft in zip(servers, drafts, strict=True)
    ]


def producer_locations(servers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """nginx's locations: of each server its path, and of a path that ends with a slash the same one without it.

    nginx answers 301 to the latter by itself. It belongs to another server, the one whose path it begins with.
    """
    locations = []
    for server in servers:
        locations.append({"match": server["path"], "server": server})
        if server["path"].endswith("/") and (bare := server["path"].rstrip("/")):
            locations.append({"match": f"= {bare}", "server": server_at(servers, bare)})
    return locations


def server_at(servers: list[dict[str, Any]], path: str) -> dict[str, Any]:
    """The server to which nginx passes a request for the path: the one with the longest path that it begins with."""
    return max((server for server in servers if path.startswith(server["path"])), key=lambda server: len(server["path"]))


def named_servers(host: Host) -> list[dict[str, Any]]:
    return mappings(host, "producer_programs") if "producer" in host.roles else []


def web_processes(host: Host) -> int:
    """The processes of all web servers. A named server counts like the main one, also where its command starts fewer."""
    workers = number(host, "producer_workers") or 0 if "producer" in host.roles else 0
    return workers + sum(whole(server.get("workers")) or workers for server in named_servers(host))


def memory_parts(host: Host) -> list[tuple[str, int]] | None:
    """Memory of the web processes in bytes, part by part; None if an input is unknown."""
    web, budget = web_processes(host), number(host, "producer_process_memory_bytes")
    connections, named = number(host, "producer_worker_connections"), len(named_servers(host))
    if not web:
        return []
    if budget is None or connections is None:
        return None
    return [
        (f"{web} web processes × {mib(budget)}", web * budget),
        ("their main processes" if named else "their main process", (1 + named) * GUNICORN_MAIN),
        (f"nginx with {2 * connections} connections", NGINX + 2 * connections * NGINX_CONNECTION),
    ]
