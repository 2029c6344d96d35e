"""The web processes of a host and their memory."""

from __future__ import annotations

from ..fleet.inputs import number
from ..fleet.model import Host
from ..fleet.units import MIB, mib

# Measured as capacity/memory.py says: 12 MiB; a resident set of 24.
GUNICORN_MAIN = 24 * MIB


def web_processes(host: Host) -> int:
    return number(host, "producer_workers") or 0 if "producer" in host.roles else 0


def memory_parts(host: Host) -> list[tuple[str, int]] | None:
    """Memory of the web processes in bytes, part by part; None if an input is unknown."""
    web, budget = web_processes(host), number(host, "producer_process_memory_bytes")
    if not web:
        return []
    return (
        None
        if budget is None
        else [(f"{web} web processes × {mib(budget)}", web * budget), ("their main process", GUNICORN_MAIN)]
    )
