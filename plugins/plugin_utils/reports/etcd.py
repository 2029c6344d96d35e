"""etcd's members in the status report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..fleet.units import mib

Report = Mapping[str, Any]

# Share of the quota from which the data is worth a sentence: at the quota etcd refuses every write.
FULL = 0.8


def answered(report: Report) -> dict[str, dict[str, Any]]:
    return {host: answer for host, answer in report["etcd"].items() if "error" not in answer}


def etcd_attention(report: Report) -> Iterator[str]:
    """Every sentence about the members."""
    members = answered(report)
    for host, member in members.items():
        if member["trouble"]:
            yield f"{host}: its member of etcd is not healthy: {member['trouble']}. On {host}: journalctl -u etcd"
            continue
        for alarm in member["alarms"]:
            yield f"{host}: etcd has the alarm {alarm} (docs/etcd.md)"
        if member["bytes"] >= FULL * member["quota"]:
            yield (
                f"{host}: etcd holds {mib(member['bytes'])}, and at {mib(member['quota'])} (etcd_quota_backend_bytes) it refuses "
                f"every write, so PostgreSQL would lose its primary. Raise it"
            )
    for host, member in members.items():
        if absent := sorted(set(member["declared"]) - set(member["known"])):
            yield f"{host}: etcd does not know the member {', '.join(absent)}: run site.yml"
        if more := sorted(set(member["known"]) - set(member["declared"])):
            yield f"{host}: etcd has the member {', '.join(more)}, which is not in the inventory: run site.yml"
    leaders = {member["leader"] for member in members.values() if not member["trouble"]}
    if len(leaders) > 1:
        yield f"the members of etcd name different leaders: {', '.join(sorted(map(str, leaders)))}"
    # Also those whose host did not answer.
    hosts = sorted({*report["etcd"], *(name for member in members.values() for name in member["declared"])})
    down = [host for host in hosts if host not in members or members[host]["trouble"]]
    if hosts and 2 * len(down) >= len(hosts):
        yield (
            f"etcd has no majority: {', '.join(down)} of {len(hosts)} members are down, so no PostgreSQL can become primary. "
            f"Start them"
        )


def etcd_rows(report: Report) -> Iterator[tuple[str, str]]:
    """Lines for the terminal."""
    for host, member in answered(report).items():
        if not member["trouble"]:
            yield (
                "etcd",
                f"{host}: etcd {member['version']}, {len(member['known'])} members, leader {member['leader']}, "
                f"{mib(member['bytes'])} of {mib(member['quota'])}",
            )
