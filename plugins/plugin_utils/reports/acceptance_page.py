"""The fleet's acceptance as a person reads it: a few lines of text, and one page of HTML that loads nothing."""

from __future__ import annotations

from html import escape
from typing import Any

from .acceptance import MEASURES

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #68717d; --line: #d8dde3; --paper: #fff; --good: #1a7f4b; --bad: #c4322b;
  --odd: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf0; --dim: #98a2ad; --line: #333a42; --paper: #14171b; --good: #5cc08c;
  --bad: #f07a72; --odd: #e6a94d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 84rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .3rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--dim); font-weight: 500; }
td { white-space: nowrap; } td.text { white-space: normal; }
.accepted { color: var(--good); } .refused { color: var(--bad); font-weight: 600; } .excepted { color: var(--odd); }
.unclaimed, .dim { color: var(--dim); }
"""


def verdict(host: dict[str, Any]) -> str:
    return "accepted" if host.get("accepted") is True else "refused"


def cell(tag: str, content: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<{tag}{attribute}>{escape(content)}</{tag}>"


def table(heads: list[str], rows: list[str]) -> str:
    head = "".join(cell("th", each) for each in heads)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(f"<tr>{row}</tr>" for row in rows)}</table></div>'


def summary(report: dict[str, Any]) -> str:
    hosts = report["hosts"]
    passed = sum(verdict(host) == "accepted" for host in hosts.values())
    needed = sum(one["needed"] for one in report["exceptions"])
    return f"{passed} of {len(hosts)} hosts accepted; exceptions in force: {needed}"


def declared(exceptions: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One row for each exception as it was written, however many hosts it is for: their values stand in the table above."""
    found: dict[tuple[str, str, str], dict[bool, list[str]]] = {}
    for one in exceptions:
        row = found.setdefault((one["measure"], one["demanded"], one["reason"]), {True: [], False: []})
        row[one["needed"]].append(one["host"])
    return [(*key, ", ".join(hosts[True]) or "–", ", ".join(hosts[False]) or "–") for key, hosts in found.items()]


def page(report: dict[str, Any]) -> str:
    """The report of fleet.acceptance.fleet_report as HTML."""
    hosts = report["hosts"]
    parts = [
        cell("h1", "Is each host what was paid for?"),
        cell("p", f"{summary(report)}.", "accepted" if report["accepted"] else "refused"),
        cell("p", f"Inventory {report['inventory']}, asked at {report['asked_at']}.", "dim"),
    ]
    if report["refused"]:
        parts += [cell("h2", "Refused"), "<ul>", *(cell("li", sentence) for sentence in report["refused"]), "</ul>"]
    rows = []
    for name, host in hosts.items():
        found = {finding["measure"]: finding for finding in host.get("findings", [])}
        cells = [cell("td", name), cell("td", verdict(host), verdict(host))]
        for measure in MEASURES:
            finding = found.get(measure.name)
            cells.append(cell("td", finding["shown"], finding["verdict"]) if finding else cell("td", "–", "dim"))
        offset = host.get("clock_offset_seconds")
        cells += [
            cell("td", "–" if offset is None else f"{offset:.3g} s"),
            cell("td", (host.get("machine_id") or "–")[:8]),
            cell("td", (host.get("measured_at") or "–")[:16].replace("T", " "), "dim"),
        ]
        rows.append("".join(cells))
    heads = ["host", "verdict", *(measure.name for measure in MEASURES), "clock offset", "identity", "measured at (UTC)"]
    parts += [cell("h2", "Measured"), table(heads, rows)]
    parts.append(
        cell(
            "p",
            "Green keeps its limit, amber differs by a declared exception, red is refused, grey is not claimed by the inventory. "
            "Clock offset and identity were held against the fleet before anything was measured.",
            "dim",
        )
    )
    parts.append(cell("h2", "Exceptions"))
    if report["exceptions"]:
        rows = ["".join(cell("td", words, "text") for words in row) for row in declared(report["exceptions"])]
        parts.append(table(["measure", "demanded", "declared reason", "needed on", "not needed on"], rows))
    else:
        parts.append(cell("p", "None."))
    limits = [
        "".join(cell("td", text, "text") for text in (f"{measure.name}: {measure.what}", measure.limit or "–", measure.why))
        for measure in MEASURES
    ]
    parts += [cell("h2", "What is held against what"), table(["measure", "input", "when it falls short"], limits)]
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head = f"{meta}<title>Acceptance</title><style>{STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def text(report: dict[str, Any]) -> str:
    """The same for a terminal: what keeps its limit in one line a host, all else in a line of its own."""
    lines = [f"{summary(report)}."]
    for name, host in report["hosts"].items():
        found = host.get("findings", [])
        lines.append(f"{name}: {verdict(host)}")
        kept = [
            f"{finding['measure']} {finding['shown']}" for finding in found if finding["verdict"] in ("accepted", "unclaimed")
        ]
        if kept:
            lines.append(f"  {', '.join(kept)}")
        lines += [f"  refused {one['measure']}: {one['shown']}, {one['demanded']} is asked" for one in found if one["sentence"]]
        for finding in (finding for finding in found if finding["reason"]):
            held = f"where {finding['demanded']} is asked" if finding["needed"] else "for which no exception is needed"
            lines.append(f"  exception {finding['measure']}: {finding['shown']}, {held}: {finding['reason']}")
    return "\n".join(lines)
