"""The exposure report: who reaches what, which of it is declared, and what a capture showed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.html import render

from lab.exposure.scan import Reached
from lab.exposure.verdict import Verdict


def line(flow: Reached, purpose: str = "") -> dict[str, object]:
    entry = {"source": flow.source, "destination": flow.destination, "port": flow.port, "protocol": flow.protocol}
    return entry | ({"purpose": purpose} if purpose else {})


def report_data(verdict: Verdict, conditions: Mapping[str, object], capture: Mapping[str, object] | None) -> dict[str, object]:
    def lines(flows: Iterable[Reached]) -> list[dict[str, object]]:
        return [line(flow, verdict.declared.get(flow, "")) for flow in sorted(flows)]

    return {
        "declared": lines(verdict.declared),
        "open": lines(verdict.open),
        "undeclared": lines(verdict.undeclared),
        "missing": lines(verdict.missing),
        "conditions": conditions,
    } | ({"capture": capture} if capture else {})


def cell(verdict: Verdict, source: str, host: str) -> list[dict[str, str]] | None:
    """The flows from a source to a host; None for a host to itself."""
    if source == host:
        return None
    entries = []
    for flow in sorted(verdict.open | set(verdict.declared)):
        if (flow.source, flow.destination) != (source, host):
            continue
        name = str(flow.port) if flow.protocol == "tcp" else f"{flow.port}/{flow.protocol}"
        if flow not in verdict.declared:
            entries.append({"text": f"{name} ✗", "tone": "bad", "purpose": "open but not declared"})
        elif flow not in verdict.open:
            entries.append({"text": f"({name})", "tone": "dim", "purpose": f"declared but not open: {verdict.declared[flow]}"})
        else:
            entries.append({"text": name, "tone": "", "purpose": verdict.declared[flow]})
    return entries


def declared_ports(verdict: Verdict) -> list[list[str]]:
    hosts: dict[tuple[str, int, str], set[str]] = {}
    for flow, purpose in verdict.declared.items():
        hosts.setdefault((flow.protocol, flow.port, purpose), set()).add(flow.destination)
    return [
        [f"{port}/{protocol}", purpose, ", ".join(sorted(names))] for (protocol, port, purpose), names in sorted(hosts.items())
    ]


def by_ipv6(links: Mapping[str, str]) -> str:
    without = sorted(name for name, address in links.items() if not address)
    return f"not over IPv6 (no address: {', '.join(without)})" if without else "over the IPv6 addresses of the link"


def captured(capture: Mapping[str, Any]) -> dict[str, Any]:
    readable = capture["readable"]
    return {
        "tone": "bad" if readable else "good",
        "verdict": f"Readable on the wire: {', '.join(readable)}." if readable else "No secret was readable on the wire.",
        "packets": f"{capture['packets']:,}",
        "bytes": f"{capture['bytes']:,}",
        "jobs": capture["jobs"],
        "searched": ", ".join(capture["looked_for"]),
        "ports": [
            [str(flow["port"]), f"{flow['packets']:,}", f"{flow['payload_bytes']:,}", f"{flow['tls_share']:.1%}"]
            for flow in capture["ports"]
        ],
    }


def page(report: Mapping[str, Any], verdict: Verdict, sources: list[str], hosts: list[str]) -> str:
    good = not verdict.undeclared and not verdict.missing
    conditions, capture = report["conditions"], report.get("capture")
    wrong = f"Flows open but not declared: {len(verdict.undeclared)}; declared but not open: {len(verdict.missing)}."
    data = {
        "tone": "good" if good else "bad",
        "verdict": "Exactly the declared flows are open." if good else wrong,
        "conditions": {"unrecorded": "", **conditions},
        "took": f"{conditions['took_s']:.0f} s",
        "udp_ports": len(conditions["udp_ports"]),
        "ipv6": by_ipv6(conditions["ipv6"]),
        "hosts": hosts,
        "matrix": [(source, [cell(verdict, source, host) for host in hosts]) for source in sources],
        "ports": declared_ports(verdict),
        "capture": captured(capture) if capture else None,
    }
    return render("exposure.html.j2", data)
