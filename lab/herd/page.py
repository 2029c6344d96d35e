"""The herd as one page of HTML: what must show, a table, and the two runs over one another, second by second."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from lab.herd.plot import Line, Mark, plot
from lab.page import document

COLOURS = ("--done", "--again")

ROWS: tuple[tuple[str, Callable[[dict], str]], ...] = (
    ("worker processes", lambda arm: f"{arm['processes']}"),
    ("jobs accepted, done, lost", lambda arm: f"{arm['accepted']:,} / {arm['done']:,} / {arm['lost']}"),
    ("effects that happened twice", lambda arm: f"{arm['double_effects']}"),
    ("backends of PostgreSQL, at most", lambda arm: f"{arm['peak_backends']}"),
    ("its processes for clients, those not let in yet included", lambda arm: f"{arm['peak_server_processes']}"),
    ("connections that failed in a task", lambda arm: f"{arm['failed_connections']:,}"),
    ("connections refused in PostgreSQL’s log", lambda arm: f"{arm['refused_by_postgresql']:,}"),
    ("jobs a second", lambda arm: f"{arm['jobs_per_s']:.0f}"),
    ("time to drain", lambda arm: f"{arm['drain_s']:.0f} s"),
    ("transaction, median / 99 %", lambda arm: pair(arm["transaction_ms"])),
    ("to be connected, median / 99 %", lambda arm: pair(arm["connect_ms"])),
    ("all that a job waited for its database, median / 99 %", lambda arm: pair(arm["database_ms"])),
)


def pair(found: dict[str, float]) -> str:
    return f"{milliseconds(found['p50'])} / {milliseconds(found['p99'])}"


def milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"


def page(told: dict) -> str:
    arms, lines = told["arms"], told["time_lines"]
    word, tone = ("holds", "good") if told["kept"] else ("does not hold", "bad")

    def both(*names: str) -> list[Line]:
        return [
            Line(lines[arm["name"]][name], colour, dashes)
            for arm, colour in zip(arms, COLOURS, strict=False)
            for name, dashes in zip(names, ("", "3 3"), strict=False)
        ]

    marks = [Mark(told["cap"], f"the plan’s cap with PgBouncer: {told['cap']}")]
    marks.append(Mark(told["granted"], f"what PostgreSQL grants: {told['granted']}"))
    figures = (
        (
            "Backends",
            "Server processes that serve the application, the most of each second. Dashed: with those for clients that are not "
            "let in yet, or are being turned away.",
            plot(both("backends", "server_processes"), marks),
        ),
        ("Failed connections", "A second, as the tasks met them; each job came again, 2 s later.", plot(both("failed"))),
        ("Jobs done", "A second.", plot(both("done"))),
        ("Jobs that wait", "Until the last one is done.", plot(both("left"))),
        (
            "The transaction",
            "From BEGIN to COMMIT as the task sees it, the wait for a connection of the pool included: median, and 99 % dashed. "
            "The scale is logarithmic, in milliseconds.",
            plot(both("transaction_p50_ms", "transaction_p99_ms"), logarithmic=True),
        ),
        (
            "All that a job waited for its database",
            "Connecting and both of its transactions: median, and 99 % dashed. Jobs that were turned away count above, not here.",
            plot(both("database_p50_ms", "database_p99_ms"), logarithmic=True),
        ),
    )
    body = f"""
<h1>The herd: {arms[0]["processes"]} workers come back to {arms[0]["accepted"]:,} jobs at once</h1>
<p class="{tone}">What must show {word}.</p>
<p class="dim">{escape(told["began"])}; the same hosts and jobs, one run after the other. {escape(told["conditions"])}</p>
<ul>{"".join(f'<li class="{"good" if line["holds"] else "bad"}">{escape(line["says"])}</li>' for line in told["verdict"])}</ul>
<div class="wide"><table><thead><tr><th></th>{"".join(f"<th>{escape(arm['name'])}</th>" for arm in arms)}</tr></thead>
<tbody>{"".join(row(what, shown, arms) for what, shown in ROWS)}</tbody></table></div>
{"".join(failures(arm) for arm in arms)}
<p>An inventory that sends these workers straight to PostgreSQL is refused by every playbook, before any host changes:
<i>{escape(told["refusal"])}</i> The direct run goes past that judgement by a connection string of the application’s own.</p>
<p class="key">{"".join(key(arm["name"], colour) for arm, colour in zip(arms, COLOURS, strict=False))}</p>
{"".join(f'<h2>{title}</h2><p class="dim">{says}</p><div class="wide">{drawing}</div>' for title, says, drawing in figures)}
"""
    return document("The herd", body)


def row(what: str, shown: Callable[[dict], str], arms: list[dict]) -> str:
    return f"<tr><td>{what}</td>{''.join(f'<td>{shown(arm)}</td>' for arm in arms)}</tr>"


def key(name: str, colour: str) -> str:
    return f'<span><i style="background:var({colour})"></i>{escape(name)}</span>'


def failures(arm: dict) -> str:
    if not arm["failures"]:
        return ""
    told = "; ".join(f"{count:,} × {why}" for why, count in arm["failures"].items())
    return f'<p class="dim">{escape(arm["name"])}, why connections failed: {escape(told)}.</p>'
