"""The web processes of a host and their memory."""

from __future__ import annotations

from ..fleet.inputs import number
from ..fleet.model import Host
from ..fleet.units import MIB, mib

# Measured as capacity/memory.py says: 12 MiB; a resident set of 24.
GUNICORN_MAIN = 24 * MIB
# nginx's parent and two processes, and those of a former reload: 6 MiB each time.
NGINX = 16 * MIB
# A client that stalls within its body, or does not take its answer: 34 KiB with TLS, of 1000 at once.
NGINX_CONNECTION = 48 * 1024


def web_processes(host: Host) -> int:
    return number(host, "producer_workers") or 0 if "producer" in host.roles else 0


def memory_parts(host: Host) -> list[tuple[str, int]] | None:
    """Memory of the web processes in bytes, part by part; None if an input is unknown."""
    web, budget = web_processes(host), number(host, "producer_process_memory_bytes")
    connections = number(host, "producer_worker_connections")
    if not web:
        return []
    if budget is None or connections is None:
        return None
    return [
        (f"{web} web processes × {mib(budget)}", web * budget),
        ("their main process", GUNICORN_MAIN),
        (f"nginx with {2 * connections} connections", NGINX + 2 * connections * NGINX_CONNECTION),
    ]
