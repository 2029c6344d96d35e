"""The drill's report as data for its page: a table, bars of recoveries and deliveries, and a time line for each fault."""

from __future__ import annotations

from math import log10
from typing import Any

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.html import render, toned

from lab.plot import Band, Line, plot

LEGEND = (("taken", "accepted"), ("done", "done"), ("again", "client retries"), ("fault", "the fault"))
# Seconds at the ends of the bars' logarithmic scale, and its ticks.
LEAST_S, MOST_S = 0.05, 2000.0
TICKS_S = (0.1, 1, 10, 60, 600)


def page(report: dict[str, Any]) -> str:
    rows = report["rows"]
    data = {
        "report": report,
        "tone": "good" if report["kept"] else "bad",
        "outcome": "kept" if report["kept"] else "broken",
        "accepted": f"{report['total']['accepted']:,}",
        "done": f"{report['total']['done']:,}",
        "took": f"{report['took_s']:.0f} s",
        "rate": f"{report['rate']:g}",
        "rows": [cells(row) for row in rows],
        "problems": [
            *((row["fault"], problem) for row in rows for problem in row["problems"]),
            *(("all rows together", problem) for problem in report["problems"]),
        ],
        "evidence": [
            [row["fault"], "; ".join(f"{name}: {value}" for name, value in row["evidence"].items()) or toned("none", "bad")]
            for row in rows
        ],
        "recoveries": recoveries(rows),
        "deliveries": deliveries(rows),
        "legend": [{"tone": tone, "text": text} for tone, text in LEGEND],
        "time_lines": [(row["fault"], time_line(report["time_lines"][row["fault"]], report["bin_s"])) for row in rows],
    }
    return render("drill.html.j2", data)


def late(row: dict[str, Any]) -> bool:
    """Whether the recovery or the outage took too long."""
    return row["resumed_s"] is None or row["resumed_s"] > row["resume_limit_s"] or row["outage_s"] > row["outage_limit_s"]


def cells(row: dict[str, Any]) -> list[str | dict[str, str]]:
    def cell(text: str, wrong: bool) -> str | dict[str, str]:
        return toned(text, "bad") if wrong else text

    return [
        row["fault"],
        f"{row['accepted']:,}",
        f"{row['done']:,}",
        cell(str(row["dead"]), row["dead"] != row["poison"]),
        cell(str(row["lost"]), row["lost"] > 0),
        str(row["second_deliveries"]),
        str(row["cut"]),
        cell(str(row["double_effects"]), row["double_effects"] > 0),
        seconds(row["outage_s"]),
        seconds(row["resumed_s"]),
        cell(seconds(row["recovery_s"]), late(row)),
        seconds(row["limit_s"]),
        seconds(row["backlog_s"]),
        str(row["repeated"]),
        f"{row['unavailable_share']:.2%}",
    ]


def seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def recoveries(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Bars for the macro `bars` of parts.html.j2: each recovery on a logarithmic scale, against its limit."""

    def at(value: float) -> str:
        return percent(log10(min(max(value, LEAST_S), MOST_S) / LEAST_S) / log10(MOST_S / LEAST_S))

    return {
        "ticks": [{"at": at(value), "text": f"{value:g} s"} for value in TICKS_S],
        "rows": [
            {
                "label": row["fault"],
                "width": at(MOST_S if row["recovery_s"] is None else row["recovery_s"]),
                "text": seconds(row["recovery_s"]),
                "tone": "late" if late(row) else "done",
                "limit": at(row["limit_s"]),
            }
            for row in rows
        ],
    }


def deliveries(rows: list[dict[str, Any]]) -> dict[str, Any]:
    most = max([1, *(row["second_deliveries"] for row in rows)])
    return {
        "ticks": [{"at": percent(share), "text": f"{most * share:g}"} for share in (0, 0.5, 1)],
        "rows": [
            {
                "label": row["fault"],
                "width": percent(row["second_deliveries"] / most),
                "text": str(row["second_deliveries"]),
                "tone": "again",
                "limit": None,
            }
            for row in rows
        ],
    }


def time_line(line: dict[str, Any], bin_s: float) -> dict[str, Any]:
    return plot(
        [
            Line(line["accepted"], "taken", area=True),
            Line(line["done"], "done"),
            Line(line["repeated"] if any(line["repeated"]) else [], "again"),
        ],
        bands=[Band(line["hurt_s"] / bin_s, line["ended_s"] / bin_s, "fault")],
        small=True,
    )
