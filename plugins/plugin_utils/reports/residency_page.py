"""The residency report as Markdown, HTML and text for the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from .html import render

Row = list[str]


def verdict(report: dict[str, Any]) -> str:
    wrong, silent = len(report["contradictions"]), [host["name"] for host in report["hosts"] if not host["answered"]]
    if silent:
        return f"Contradictions: {wrong}. No answer from {', '.join(silent)}."
    if wrong:
        return f"{wrong} observation{'s' * (wrong != 1)} contradict{'s' * (wrong == 1)} the declaration."
    return "Nothing observed contradicts the declaration."


def end(flow_end: dict[str, Any]) -> str:
    addresses = ", ".join(flow_end["addresses"])
    return flow_end["name"] if flow_end["name"] == addresses else f"{flow_end['name']} ({addresses})"


def at_rest(report: dict[str, Any]) -> list[Row]:
    return [
        [host["name"], host["country"], holding["role"], holding["what"], holding["where"]]
        for host in report["hosts"]
        for holding in host["holds"]
    ]


def outside(report: dict[str, Any]) -> list[Row]:
    return [
        [site["name"], site["kind"], site["country"], ", ".join(site["addresses"]), site_flow(site), site["reason"]]
        for site in report["sites"]
    ]


def site_flow(site: dict[str, Any]) -> str:
    ports = " ".join(map(str, site["ports"])) or {"clients": "(the producers' ports)"}.get(site["kind"], "")
    direction = "inbound" if site["direction"] == "in" else "outbound"
    return f"{direction}, {'/'.join(site['protocols'])} {ports}".rstrip()


def declared_flows(report: dict[str, Any]) -> list[Row]:
    """Flows that differ only in their ports, their source or their destination share a row."""
    rows = [(end(f["source"]), end(f["destination"]), f["purpose"], f["protocol"], str(f["port"] or "")) for f in report["flows"]]
    for column in (4, 3, 0, 1):
        rows = merged(rows, column)
    return [list(row) for row in sorted(rows, key=lambda row: (row[2], row))]


def merged(rows: list[tuple[str, ...]], column: int) -> list[tuple[str, ...]]:
    """One row for all rows that differ only in this column."""
    values_of: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        values_of.setdefault((*row[:column], *row[column + 1 :]), []).append(row[column])
    return [(*rest[:column], ", ".join(dict.fromkeys(values)), *rest[column:]) for rest, values in values_of.items()]


def observed(report: dict[str, Any]) -> list[Row]:
    rows = []
    for host in report["hosts"]:
        facts = report["observed"].get(host["name"])
        if facts is None:
            rows.append([host["name"], "everything", "no answer"])
            continue
        listens = [f"{row['program'] or '?'} {row['address']}:{row['port']}/{row['protocol']}" for row in facts["listening"]]
        peers = [f"{row['program'] or '?'} {row['direction']} {row['address']}:{row['port']}" for row in facts["peers"]]
        for label, values in (
            ("listens on", listens),
            ("connections", peers),
            ("routes", [f"{entry['to']} via {entry['via'] or entry['interface']}" for entry in facts["routes"]]),
            ("resolvers", facts["resolvers"]),
            ("time servers", facts["time_servers"]),
            ("package sources", sorted({f"{row['address'] or row['file']}:{row['port']}" for row in facts["package_sources"]})),
            ("mounts", [f"{entry['at']} ({entry['type']}{'; network' * entry['network']})" for entry in facts["mounts"]]),
            ("swap", facts["swap"]),
            ("sends to", [f"{entry['target']} ({entry['file']})" for entry in facts["remote"]]),
            ("egress", [host["egress"]]),
        ):
            rows.append([host["name"], label, ", ".join(map(str, values)) or "nothing"])
    return rows


def sections(report: dict[str, Any]) -> list[tuple[str, str, Row, list[Row], str]]:
    """Title, sentence, heads, rows, and the text in site of an empty table."""
    return [
        (
            "Contradictions of the declaration",
            "Fix each on its host, or declare it.",
            ["host", "finding"],
            [[entry["host"], entry["what"]] for entry in report["contradictions"]],
            "Nothing.",
        ),
        (
            "Exceptions",
            "Intended differences, each with its reason.",
            ["input", "exception", "reason", "hosts"],
            [[entry["input"], entry["what"], entry["reason"], entry["hosts"]] for entry in report["exceptions"]],
            "None.",
        ),
        (
            "Data at rest",
            f"Countries allowed: {', '.join(report['countries_allowed'])}.",
            ["host", "country", "service", "data", "path"],
            at_rest(report),
            "None.",
        ),
        (
            "Erasure",
            "By this date no backup holds what is deleted today, if every backup succeeds.",
            ["repository", "data", "kept for", "deleted on", "forgotten by"],
            [[entry[key] for key in ("host", "what", "kept", "deleted_on", "forgotten_by")] for entry in report["erasure"]],
            "The inventory has no backup repository.",
        ),
        (
            "Sites outside the fleet",
            "Inbound and outbound sites.",
            ["site", "kind", "country", "addresses", "flow", "reason"],
            outside(report),
            "None.",
        ),
        (
            "Declared flows",
            "Anything else is undeclared.",
            ["from", "to", "purpose", "protocol", "ports"],
            declared_flows(report),
            "None.",
        ),
        ("Observed", "As each host reported it in this run.", ["host", "what", "value"], observed(report), "Nothing."),
    ]


def head(report: dict[str, Any]) -> str:
    return f"Inventory {report['inventory']}, observed at {report['observed_at']}."


def table(title_row: Row, rows: Iterable[Row], cell: Callable[[str], str]) -> list[str]:
    lines = ["| " + " | ".join(title_row) + " |", "|" + " --- |" * len(title_row)]
    return lines + ["| " + " | ".join(cell(str(value)) for value in row) + " |" for row in rows]


def markdown(report: dict[str, Any]) -> str:
    lines = ["# Residency", "", head(report), "", f"**{verdict(report)}**", ""]
    for title, sentence, names, rows, none in sections(report):
        lines += [f"## {title}", "", sentence, ""]
        lines += [*table(names, rows, lambda text: re.sub(r"([|<])", r"\\\1", text)), ""] if rows else [none, ""]
    return "\n".join(lines)


def html(report: dict[str, Any]) -> str:
    data = {
        "head": head(report),
        "verdict": verdict(report),
        "tone": "bad" if report["contradictions"] else "good",
        "sections": sections(report),
    }
    return render("residency.html.j2", data)


def terminal(report: dict[str, Any]) -> str:
    """The verdict, the contradictions, the exceptions and the dates of erasure, for the end of a run."""
    lines = [head(report), verdict(report)]
    lines += [f"  * {entry['host']}: {entry['what']}" for entry in report["contradictions"]]
    if report["exceptions"]:
        lines.append(f"{len(report['exceptions'])} exceptions:")
        lines += [f"  - {entry['what']}: {entry['reason']} ({entry['hosts']})" for entry in report["exceptions"]]
    lines += [
        f"{entry['host']}: {entry['what']} have forgotten a row that is deleted today by {entry['forgotten_by']}"
        for entry in report["erasure"]
    ]
    return "\n".join(lines)
