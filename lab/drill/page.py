"""The drill as one page of HTML: a table, a plot of recoveries, and each row's time line, in plain SVG with nothing to load."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from math import log10

from lab.page import document

HEADS = (
    "fault", "accepted", "done", "dead", "lost", "second deliveries", "of these cut", "double effects",
    "outage", "recovery", "limit", "backlog", "repeated",
)  # fmt: skip

KEY = (("--taken", "accepted"), ("--done", "done"), ("--again", "attempts that were repeated"), ("--hurt", "the fault"))


def page(told: dict) -> str:
    total, rows = told["total"], told["rows"]
    word, tone = ("kept", "good") if told["kept"] else ("broken", "bad")
    body = f"""
<h1>The drill: what was accepted is done</h1>
<p class="{tone}">The promise was {word}: of {total["accepted"]:,} accepted jobs
{total["done"]:,} are done, {total["dead"]} are dead letters, {total["lost"]} are lost;
{total["double_effects"]} effects happened twice.</p>
<p class="dim">{escape(told["began"])}, {told["took_s"]:.0f} s, {told["rate"]:g} jobs a second. Counted by SQL
in the application's database after each fault: the keys that got a <code>202</code> against the keys that are done.</p>
<div class="wide"><table><thead><tr>{"".join(f"<th>{head}</th>" for head in HEADS)}</tr></thead>
<tbody>{"".join(row_of_table(row) for row in rows)}</tbody></table></div>
{"".join(f'<p class="bad">{escape(row["fault"])}: {escape(problem)}</p>' for row in rows for problem in row["problems"])}
{"".join(f'<p class="bad">{escape(fault)} came to no end: {escape(why)}</p>' for fault, why in told["unended"].items())}
<h2>Seconds to recover</h2>
<p class="dim">From the fault's end (the kill; the service active again; the network back; the host started) to the end
of the first run that began after it, at the host that the fault struck. The mark is the limit. The scale is logarithmic.</p>
{recoveries(rows)}
<h2>Jobs that were delivered twice</h2>
<p class="dim">Each began again after its process, host, connection or broker was lost, or because
its client sent it again. That none had its effect twice is counted apart.</p>
{deliveries(rows)}
<h2>Second by second</h2>
<p class="key">{"".join(f'<span><i style="background:var({hue})"></i>{what}</span>' for hue, what in KEY)}</p>
<div class="lines">{"".join(time_line(row["fault"], told["time_lines"][row["fault"]], told["bin_s"]) for row in rows)}
</div>
"""
    return document("The drill", body)


def row_of_table(row: dict) -> str:
    def cell(text: str, bad: bool = False) -> str:
        return f'<td class="bad">{text}</td>' if bad else f"<td>{text}</td>"

    late = row["recovery_s"] is None or row["recovery_s"] > row["limit_s"]
    cells = [
        f"<td>{escape(row['fault'])}</td>",
        *(cell(f"{row[name]:,}") for name in ("accepted", "done")),
        cell(str(row["dead"]), row["dead"] != row["poison"]),
        cell(str(row["lost"]), row["lost"] > 0),
        cell(str(row["second_deliveries"])),
        cell(str(row["cut"])),
        cell(str(row["double_effects"]), row["double_effects"] > 0),
        cell(seconds(row["outage_s"])),
        cell(seconds(row["recovery_s"]), late),
        cell(seconds(row["limit_s"])),
        cell(seconds(row["backlog_s"])),
        cell(str(row["repeated"])),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def bars(
    rows: list[dict],
    shown: Callable[[dict], tuple[float, str]],
    place: Callable[[float], float],
    ticks: list[tuple[float, str]],
    colour: Callable[[dict], str],
    mark: Callable[[dict], float | None],
) -> str:
    """One bar a row. `place` maps a value onto 0…1; `mark` is a limit or None."""
    left, width, high = 230, 600, 22
    height = high * len(rows) + 26
    drawn = []
    for value, text in ticks:
        x = left + width * place(value)
        drawn.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 22}"/>')
        drawn.append(f'<text class="dim" x="{x:.1f}" y="{height - 6}" text-anchor="middle">{text}</text>')
    for number, row in enumerate(rows):
        y, (value, text) = number * high, shown(row)
        drawn.append(f'<text x="{left - 10}" y="{y + 15}" text-anchor="end">{escape(row["fault"])}</text>')
        length = max(1.0, width * place(value))
        drawn.append(f'<rect x="{left}" y="{y + 4}" width="{length:.1f}" height="{high - 8}" rx="2" fill="{colour(row)}"/>')
        beside = left + length + 6
        if (limit := mark(row)) is not None:
            x = left + width * place(limit)
            if x - 40 < beside < x + 6:  # the text would stand on the mark
                beside = x + 6
            drawn.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y + 1}" y2="{y + high - 1}" stroke="var(--ink)" stroke-width="2"/>'
            )
        drawn.append(f'<text x="{beside:.1f}" y="{y + 15}">{text}</text>')
    return f'<svg viewBox="0 0 {left + width + 70} {height}" role="img">{"".join(drawn)}</svg>'


def recoveries(rows: list[dict]) -> str:
    low, high = 0.05, 200.0

    def place(value: float) -> float:
        return (log10(min(max(value, low), high)) - log10(low)) / (log10(high) - log10(low))

    def shown(row: dict) -> tuple[float, str]:
        value = row["recovery_s"]
        return (high, "never") if value is None else (value, f"{value:.1f} s")

    def colour(row: dict) -> str:
        return "var(--done)" if shown(row)[0] <= row["limit_s"] else "var(--bad)"

    ticks = [(0.1, "0.1 s"), (1, "1 s"), (5, "5 s"), (10, "10 s"), (60, "60 s")]
    return bars(rows, shown, place, ticks, colour, lambda row: row["limit_s"])


def deliveries(rows: list[dict]) -> str:
    most = max(1, *(row["second_deliveries"] for row in rows))
    ticks = [(0, "0"), (most / 2, f"{most / 2:g}"), (most, f"{most}")]
    return bars(
        rows, lambda row: (row["second_deliveries"], str(row["second_deliveries"])), lambda value: value / most, ticks,
        lambda row: "var(--again)", lambda row: None,
    )  # fmt: skip


def time_line(name: str, line: dict, bin_s: float) -> str:
    width, height, foot = 330, 110, 18
    length = max(1, len(line["done"]))
    most = max(1, *line["accepted"], *line["done"], *line["repeated"])
    step, floor = width / length, height - foot

    def x(moment_s: float) -> float:
        return moment_s / bin_s * step

    def area(counts: list[int], style: str) -> str:
        points = [f"{number * step:.1f},{floor - count / most * (floor - 14):.1f}" for number, count in enumerate(counts)]
        ends = f"0,{floor} {' '.join(points)} {(length - 1) * step:.1f},{floor}"
        return f'<polygon points="{ends}" style="{style}"/>'

    def stroke(counts: list[int], colour: str) -> str:
        points = " ".join(f"{number * step:.1f},{floor - count / most * (floor - 14):.1f}" for number, count in enumerate(counts))
        return f'<polyline points="{points}" fill="none" stroke="var({colour})" stroke-width="1.6"/>'

    lasted = max(2.0, x(line["ended_s"]) - x(line["hurt_s"]))
    drawn = [
        f'<rect x="{x(line["hurt_s"]):.1f}" y="0" width="{lasted:.1f}" height="{floor}" fill="var(--hurt)"/>',
        area(line["accepted"], "fill:var(--taken);opacity:.7"),
        stroke(line["done"], "--done"),
        stroke(line["repeated"], "--again") if any(line["repeated"]) else "",
        f'<line class="grid" x1="0" x2="{width}" y1="{floor}" y2="{floor}"/>',
        f'<text class="dim" x="0" y="11">{most}/s</text>',
        f'<text class="dim" x="0" y="{height - 4}">0 s</text>',
        f'<text class="dim" x="{width}" y="{height - 4}" text-anchor="end">{length * bin_s:.0f} s</text>',
    ]
    drawing = f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(drawn)}</svg>'
    return f"<figure><figcaption>{escape(name)}</figcaption>{drawing}</figure>"
