"""Disks: the backups of the whole retention, and the WAL that a primary keeps for a standby that is away."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.model import Fleet
from ..fleet.units import MIB, mib
from ..sizing.pgbackrest import repository_parts
from ..sizing.postgresql import postgresql_bytes
from .line import BYTES, Line, parts


def disk_lines(fleet: Fleet) -> Iterator[Line]:
    yield from _repositories(fleet)
    yield from _wal_for_standbys(fleet)


def _repositories(fleet: Fleet) -> Iterator[Line]:
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


def _wal_for_standbys(fleet: Fleet) -> Iterator[Line]:
    """What is free now must hold it: any member may be the primary, and a full disk stops every write."""
    for host in fleet.with_role("patroni"):
        kept = postgresql_bytes(host.inputs.get("patroni_max_slot_wal_keep_size"), MIB)
        free = (host.measured.get("disk_free_bytes") or {}).get("/var")
        if kept is not None and free is not None:
            yield Line(
                host.name,
                "disk for WAL of standbys",
                free,
                parts([("WAL kept for a standby that is away", kept)]),
                f"{host.name}: as the primary it would keep {mib(kept)} of WAL for a standby that is away "
                f"(patroni_max_slot_wal_keep_size), but /var has {mib(free)} free: a full disk stops every write. Give it a "
                f"larger disk, or lower patroni_max_slot_wal_keep_size; a standby that is away for longer is then copied again.",
                BYTES,
            )
