"""The herd's report as data for its page: the checks, a table, and plots of both runs, second by second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.html import render

from lab.plot import Line, Mark, plot

TONES = ("done", "again")

ROWS: tuple[tuple[str, Callable[[dict], str]], ...] = (
    ("worker processes", lambda arm: f"{arm['processes']}"),
    ("jobs accepted / done / lost", lambda arm: f"{arm['accepted']:,} / {arm['done']:,} / {arm['lost']}"),
    ("effects that happened twice", lambda arm: f"{arm['double_effects']}"),
    ("PostgreSQL backends, peak", lambda arm: f"{arm['peak_backends']}"),
    ("PostgreSQL client processes, logins included, peak", lambda arm: f"{arm['peak_server_processes']}"),
    ("failed connections in tasks", lambda arm: f"{arm['failed_connections']:,}"),
    ("refused connections in PostgreSQL’s log", lambda arm: f"{arm['refused_by_postgresql']:,}"),
    ("jobs per second", lambda arm: f"{arm['jobs_per_s']:.0f}"),
    ("time to drain", lambda arm: f"{arm['drain_s']:.0f} s"),
    ("transaction, median / 99 %", lambda arm: pair(arm["transaction_ms"])),
    ("connecting, median / 99 %", lambda arm: pair(arm["connect_ms"])),
    ("a job’s total wait for its database, median / 99 %", lambda arm: pair(arm["database_ms"])),
)

# Title, sentence, the solid and the dashed line of each run, and whether the scale is logarithmic.
PLOTS: tuple[tuple[str, str, tuple[str, ...], bool], ...] = (
    (
        "Backends",
        "Server processes for the application, peak of each second. Dashed: including clients that are still logging in or "
        "being turned away.",
        ("backends", "server_processes"),
        False,
    ),
    ("Failed connections", "Per second, as seen by the tasks. Each job was retried after 2 s.", ("failed",), False),
    ("Jobs done", "Per second.", ("done",), False),
    ("Jobs waiting", "Until the last one is done.", ("left",), False),
    (
        "Transaction",
        "From BEGIN to COMMIT as the task sees it, including the wait for a pooled connection: median, and 99 % dashed. "
        "Logarithmic scale, in milliseconds.",
        ("transaction_p50_ms", "transaction_p99_ms"),
        True,
    ),
    (
        "A job’s total wait for its database",
        "Connecting and both transactions: median, and 99 % dashed. Jobs that were turned away count as failed connections, "
        "not here. Logarithmic scale, in milliseconds.",
        ("database_p50_ms", "database_p99_ms"),
        True,
    ),
)


def pair(percentiles: dict[str, float]) -> str:
    return f"{milliseconds(percentiles['p50'])} / {milliseconds(percentiles['p99'])}"


def milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"


def page(report: dict[str, Any]) -> str:
    arms = report["arms"]
    marks = [
        Mark(report["cap"], f"planned maximum with PgBouncer: {report['cap']}"),
        Mark(report["granted"], f"available in PostgreSQL: {report['granted']}"),
    ]

    def lines(*names: str) -> list[Line]:
        return [
            Line(report["time_lines"][arm["name"]][name], tone, dashed=number > 0)
            for arm, tone in zip(arms, TONES, strict=False)
            for number, name in enumerate(names)
        ]

    data = {
        "report": report,
        "tone": "good" if report["kept"] else "bad",
        "outcome": "Every check holds." if report["kept"] else "A check failed.",
        "processes": arms[0]["processes"],
        "accepted": f"{arms[0]['accepted']:,}",
        "arms": [arm["name"] for arm in arms],
        "rows": [[name, *(text(arm) for arm in arms)] for name, text in ROWS],
        "failures": [
            (arm["name"], "; ".join(f"{count:,} × {why}" for why, count in arm["failures"].items()))
            for arm in arms
            if arm["failures"]
        ],
        "legend": [{"tone": tone, "text": arm["name"]} for arm, tone in zip(arms, TONES, strict=False)],
        "plots": [
            (title, sentence, plot(lines(*names), marks if title == "Backends" else (), logarithmic=logarithmic))
            for title, sentence, names, logarithmic in PLOTS
        ],
    }
    return render("herd.html.j2", data)
