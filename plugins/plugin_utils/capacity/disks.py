"""Disks: the backups of the whole retention, and the WAL that a primary keeps for a standby that is away."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.model import Fleet, Host
from ..fleet.units import MIB, mib
from ..sizing import pgbackrest, restic
from ..sizing.postgresql import postgresql_bytes
from .line import BYTES, Line, parts


def disk_lines(fleet: Fleet) -> Iterator[Line]:
    yield from _repositories(fleet)
    yield from _wal_for_standbys(fleet)


def _repositories(fleet: Fleet) -> Iterator[Line]:
    for host in {host.name: host for role in ("pgbackrest", "restic") for host in fleet.with_role(role)}.values():
        database, files = pgbackrest.repository_parts(host), restic.repository_parts(host)
        backups, held = host.measured.get("backups") or {}, host.measured.get("file_backups") or {}
        if database and files and backups.get("device") == held["device"]:
            yield _repository(host, [*database, *files], backups["disk_bytes"] + held["held_bytes"])
            continue
        if database:
            yield _repository(host, database, backups["disk_bytes"])
        if files:
            yield _repository(host, files, held["disk_bytes"])


def _repository(host: Host, counted: list[tuple[str, int]], limit: int) -> Line:
    needed = sum(size for _, size in counted)
    largest, size = max(counted, key=lambda pair: pair[1])
    inputs = [name for name in ("pgbackrest_repo_retention_full", "restic_retention_days") if name in host.inputs]
    kept = " and ".join(f"{host.inputs[name]} days ({name})" for name in inputs)
    return Line(
        host.name,
        "disk of the repository",
        limit,
        parts(counted),
        f"{host.name}: the backups of {kept} will take {mib(needed)} at the measured sizes, but the repository's disk has "
        f"{mib(limit)} for them. The largest part is {largest}, {mib(size)}. Give it a larger disk, or keep backups for fewer "
        f"days.",
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
