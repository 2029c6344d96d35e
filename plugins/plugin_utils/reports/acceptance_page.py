"""The fleet's acceptance report as text for the terminal and as an HTML page."""

from __future__ import annotations

from typing import Any

from .acceptance import MEASURES
from .html import render, toned

NONE = toned("–", "dim")
TONES = {"accepted": "good", "excepted": "odd", "refused": "bad", "unclaimed": "dim"}


def verdict(host: dict[str, Any]) -> str:
    return "accepted" if host.get("accepted") is True else "refused"


def summary(report: dict[str, Any]) -> str:
    hosts = report["hosts"]
    passed = sum(verdict(host) == "accepted" for host in hosts.values())
    needed = sum(exception["needed"] for exception in report["exceptions"])
    return f"{passed} of {len(hosts)} hosts accepted; exceptions in force: {needed}"


def declared(exceptions: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One row per exception and reason, with its hosts; their values are in the table of measurements."""
    rows: dict[tuple[str, str, str], dict[bool, list[str]]] = {}
    for exception in exceptions:
        key = (exception["measure"], exception["demanded"], exception["reason"])
        rows.setdefault(key, {True: [], False: []})[exception["needed"]].append(exception["host"])
    return [(*key, ", ".join(hosts[True]) or "–", ", ".join(hosts[False]) or "–") for key, hosts in rows.items()]


def measured(name: str, host: dict[str, Any]) -> list[str | dict[str, str]]:
    """A host's row of the table: verdict, measures, clock offset, machine and date."""
    findings = {finding["measure"]: finding for finding in host.get("findings", [])}
    offset = host.get("clock_offset_seconds")
    return [
        name,
        toned(verdict(host), TONES[verdict(host)]),
        *(
            toned(findings[measure.name]["shown"], TONES[findings[measure.name]["verdict"]]) if measure.name in findings else NONE
            for measure in MEASURES
        ),
        NONE if offset is None else f"{offset:.3g} s",
        (host.get("machine_id") or "–")[:8],
        toned((host.get("measured_at") or "–")[:16].replace("T", " "), "dim"),
    ]


def page(report: dict[str, Any]) -> str:
    """The report of fleet_report as HTML."""
    data = {
        "report": report,
        "tone": "good" if report["accepted"] else "bad",
        "summary": summary(report),
        "measures": [measure.name for measure in MEASURES],
        "measured": [measured(name, host) for name, host in report["hosts"].items()],
        "exceptions": declared(report["exceptions"]),
        "limits": [(f"{measure.name}: {measure.what}", measure.limit or "–", measure.why) for measure in MEASURES],
    }
    return render("acceptance.html.j2", data)


def text(report: dict[str, Any]) -> str:
    """One line per host with the accepted measures, and one line for each refused or excepted one."""
    lines = [f"{summary(report)}."]
    for name, host in report["hosts"].items():
        findings = host.get("findings", [])
        lines.append(f"{name}: {verdict(host)}")
        kept = [
            f"{finding['measure']} {finding['shown']}" for finding in findings if finding["verdict"] in ("accepted", "unclaimed")
        ]
        if kept:
            lines.append(f"  {', '.join(kept)}")
        lines += [
            f"  refused {finding['measure']}: {finding['shown']}, {finding['demanded']} is required"
            for finding in findings
            if finding["sentence"]
        ]
        for finding in (finding for finding in findings if finding["reason"]):
            held = f"where {finding['demanded']} is required" if finding["needed"] else "for which no exception is needed"
            lines.append(f"  exception {finding['measure']}: {finding['shown']}, {held}: {finding['reason']}")
    return "\n".join(lines)
