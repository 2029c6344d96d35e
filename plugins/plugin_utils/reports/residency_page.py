"""The residency report as a person reads it: Markdown for a file or a terminal, one page of HTML for everybody else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #68717d; --paper: #fff; --line: #d8dde3;
  --good: #1a7f4b; --bad: #c4322b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7ebf0; --dim: #98a2ad; --paper: #14171b; --line: #333a42; --good: #5cc08c; --bad: #f07a72; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .3rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem; }
p { max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--dim); font-weight: 500; }
td.name { white-space: nowrap; }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
"""
Row = list[str]


def verdict(report: dict[str, Any]) -> str:
    wrong, silent = len(report["contradictions"]), [host["name"] for host in report["hosts"] if not host["answered"]]
    if silent:
        return f"{wrong} contradictions; nothing is known of {', '.join(silent)}."
    if wrong:
        return f"{wrong} thing{'s' * (wrong != 1)} observed that contradict{'s' * (wrong == 1)} the declaration."
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
        [place["name"], place["kind"], place["country"], ", ".join(place["addresses"]), ways(place), place["reason"]]
        for place in report["places"]
    ]


def ways(place: dict[str, Any]) -> str:
    ports = " ".join(map(str, place["ports"])) or {"clients": "(the producers' own ports)"}.get(place["kind"], "")
    direction = "comes" if place["direction"] == "in" else "is gone to"
    return f"{direction}, {'/'.join(place['protocols'])} {ports}".rstrip()


def talk(report: dict[str, Any]) -> list[Row]:
    """Flows; those that differ in their ports, their source or their destination alone are one line."""
    rows = [(end(f["source"]), end(f["destination"]), f["purpose"], f["protocol"], str(f["port"] or "")) for f in report["flows"]]
    for column in (4, 3, 0, 1):
        rows = together(rows, column)
    return [list(row) for row in sorted(rows, key=lambda row: (row[2], row))]


def together(rows: list[tuple[str, ...]], column: int) -> list[tuple[str, ...]]:
    """Rows that are the same but for one column, as one row."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        found.setdefault((*row[:column], *row[column + 1 :]), []).append(row[column])
    return [(*rest[:column], ", ".join(dict.fromkeys(values)), *rest[column:]) for rest, values in found.items()]


def seen(report: dict[str, Any]) -> list[Row]:
    rows = []
    for host in report["hosts"]:
        told = report["observed"].get(host["name"])
        if told is None:
            rows.append([host["name"], "everything", "it did not answer"])
            continue
        listens = [f"{one['program'] or '?'} {one['address']}:{one['port']}/{one['protocol']}" for one in told["listening"]]
        peers = [f"{one['program'] or '?'} {one['direction']} {one['address']}:{one['port']}" for one in told["peers"]]
        for label, values in (
            ("listens", listens),
            ("on the line", peers),
            ("routes", [f"{one['to']} via {one['via'] or one['interface']}" for one in told["routes"]]),
            ("asks for names", told["resolvers"]),
            ("asks for the time", told["time_servers"]),
            ("takes packages from", sorted({f"{one['address']}:{one['port']}" for one in told["package_sources"]})),
            (
                "keeps files on",
                [f"{one['at']} ({one['type']}{', of another machine' * one['network']})" for one in told["mounts"]],
            ),
            ("swaps to", told["swap"]),
            ("is told to send to", [f"{one['target']} ({one['file']})" for one in told["remote"]]),
            ("egress", [host["egress"]]),
        ):
            rows.append([host["name"], label, ", ".join(map(str, values)) or "nothing"])
    return rows


def sections(report: dict[str, Any]) -> list[tuple[str, str, Row, list[Row], str]]:
    """Title, sentence, head, rows, and what is said where there are none."""
    return [
        (
            "What contradicts the declaration",
            "Each is to be put right on its host, or declared.",
            ["host", "what"],
            [[one["host"], one["what"]] for one in report["contradictions"]],
            "Nothing.",
        ),
        (
            "Exceptions",
            "What the inventory lets differ on purpose, with its reason.",
            ["input", "what", "reason", "hosts"],
            [[one["input"], one["what"], one["reason"], one["hosts"]] for one in report["exceptions"]],
            "None.",
        ),
        (
            "Where data rests",
            f"Countries allowed: {', '.join(report['countries_allowed'])}.",
            ["host", "country", "service", "what", "where"],
            at_rest(report),
            "Nowhere.",
        ),
        (
            "Places outside the fleet",
            "Whoever comes, and whatever is gone to.",
            ["place", "kind", "country", "addresses", "way", "reason"],
            outside(report),
            "None.",
        ),
        (
            "Who may talk to whom",
            "Every declared flow; all else is undeclared.",
            ["from", "to", "for", "by", "ports"],
            talk(report),
            "Nobody.",
        ),
        ("What was observed", "As each host told it in this run.", ["host", "it", "what"], seen(report), "Nothing."),
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


def data_cell(value: object) -> str:
    """A name stays on its line; whatever holds several words or names is broken where it must be."""
    text = escape(str(value))
    return f"<td>{text}</td>" if " " in text else f'<td class="name">{text}</td>'


def html(report: dict[str, Any]) -> str:
    good = not report["contradictions"]
    parts = [
        f'<h1>Residency</h1><p>{escape(head(report))}</p><p class="{"good" if good else "bad"}">{escape(verdict(report))}</p>'
    ]
    for title, sentence, names, rows, none in sections(report):
        parts.append(f"<h2>{escape(title)}</h2><p>{escape(sentence)}</p>")
        if not rows:
            parts.append(f"<p>{escape(none)}</p>")
            continue
        cells = "".join("<tr>" + "".join(map(data_cell, row)) + "</tr>" for row in rows)
        heads = "".join(f"<th>{escape(name)}</th>" for name in names)
        parts.append(f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table></div>')
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    top = f"<head>{meta}<title>Residency</title><style>{STYLE}</style></head>"
    return f'<!doctype html><html lang="en">{top}<body>{"".join(parts)}</body></html>\n'


def terminal(report: dict[str, Any]) -> str:
    """What is printed at the end of a run: the verdict, what contradicts, and the exceptions."""
    lines = [head(report), verdict(report)]
    lines += [f"  * {one['host']}: {one['what']}" for one in report["contradictions"]]
    if report["exceptions"]:
        lines.append(f"{len(report['exceptions'])} exceptions:")
        lines += [f"  - {one['what']}: {one['reason']} ({one['hosts']})" for one in report["exceptions"]]
    return "\n".join(lines)
