"""Who has the virtual addresses, in the status report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Report = Mapping[str, Any]


def answered(report: Report) -> dict[str, dict[str, Any]]:
    return {host: answer for host, answer in report["keepalived"].items() if "error" not in answer}


def holders(report: Report) -> dict[str, tuple[list[str], list[str]]]:
    """Virtual address to the hosts that have it, and to the others that may."""
    members: dict[str, tuple[list[str], list[str]]] = {}
    for host, answer in sorted(answered(report).items()):
        for address in answer["declared"]:
            members.setdefault(address, ([], []))[address not in answer["held"]].append(host)
    return members


def keepalived_attention(report: Report) -> Iterator[str]:
    """Every sentence about the virtual addresses."""
    for host, answer in answered(report).items():
        if not answer["running"]:
            yield (
                f"{host}: keepalived does not run, so the host cannot take over {', '.join(answer['declared'])}. On {host}: "
                f"systemctl start keepalived, then journalctl -u keepalived"
            )
    for address, (having, others) in holders(report).items():
        if not having:
            yield (
                f"no host has the virtual address {address}, so clients reach nothing there: the health page answers on none of "
                f"{', '.join(others)}, or keepalived does not run. There: journalctl -u keepalived"
            )
        elif len(having) > 1:
            yield (
                f"{' and '.join(having)} have the virtual address {address} at the same time: they do not hear each other's "
                f"adverts (IP protocol 112). Check the network between them, then run site.yml"
            )


def keepalived_rows(report: Report) -> Iterator[tuple[str, str]]:
    """Lines for the terminal."""
    for address, (having, others) in holders(report).items():
        yield "address", f"{address}: on {' and '.join(having) or 'no host'}; also for {', '.join(others) or 'nobody'}"
