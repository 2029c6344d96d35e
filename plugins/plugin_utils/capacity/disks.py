"""Disks of repository hosts: what the backups of the whole retention will take."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.model import Fleet
from ..fleet.units import mib
from ..sizing.pgbackrest import repository_parts
from .line import BYTES, Line, parts


def disk_lines(fleet: Fleet) -> Iterator[Line]:
    for host in fleet.with_role("pgbackrest"):
        counted, measured = repository_parts(host), host.measured.get("backups") or {}
        if counted is None:
            continue
        needed, limit = sum(size for _, size in counted), measured["disk_bytes"]
        largest, size = max(counted, key=lambda pair: pair[1])
        yield Line(
            host.name,
            "disk of the repository",
            limit,
            parts(counted),
            f"{host.name}: the backups of {host.inputs.get('pgbackrest_repo_retention_full')} days will take {mib(needed)} at "
            f"the measured sizes, but the repository's disk has {mib(limit)} for them. The largest part is {largest}, "
            f"{mib(size)}. Give it a larger disk, or lower pgbackrest_repo_retention_full.",
            BYTES,
        )
