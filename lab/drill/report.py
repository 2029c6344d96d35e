"""What the drill leaves behind: build/drill.json, build/drill.html with its plots, and the table that a person reads."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lab.drill.page import page
from lab.drill.rows import BIN_S, Row

SUMMED = ("accepted", "done", "dead", "lost", "second_deliveries", "cut", "double_effects", "unpromised")


def told(made: Sequence[Row], lines: dict[str, dict], unended: dict[str, str], began: float, rate: float) -> dict:
    """`unended` are the faults that came to no row, with the reason."""
    total = {name: sum(getattr(row, name) for row in made) for name in SUMMED}
    return {
        "schema": 1,
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(began)),
        "took_s": round(time.time() - began, 1),
        "rate": rate,
        "kept": not unended and all(not row.problems for row in made),
        "total": total,
        "unended": unended,
        "rows": [asdict(row) for row in made],
        "bin_s": BIN_S,
        "time_lines": lines,
    }


def write(all_of_it: dict, build: Path) -> None:
    (build / "drill.json").write_text(json.dumps(all_of_it, indent=2) + "\n", encoding="utf-8")
    (build / "drill.html").write_text(page(all_of_it), encoding="utf-8")


def seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def sentence(row: Row) -> str:
    return (
        f"{row.accepted} accepted, {row.done} done, {row.dead} dead, {row.lost} lost; {row.second_deliveries} delivered twice, "
        f"{row.double_effects} effects twice; at work again after {seconds(row.recovery_s)}"
    )


def table(made: Sequence[Row]) -> str:
    heads = ("fault", "accepted", "done", "dead", "lost", "2nd deliv.", "cut", "2nd effects", "outage", "recovery", "of", "")
    lines = [
        (
            row.fault, row.accepted, row.done, row.dead, row.lost, row.second_deliveries, row.cut, row.double_effects,
            seconds(row.outage_s), seconds(row.recovery_s), seconds(row.limit_s), "✗" if row.problems else "✓",
        )
        for row in made
    ]  # fmt: skip
    widths = [max(len(str(line[place])) for line in [heads, *lines]) for place in range(len(heads))]
    return "\n".join(
        "  "
        + str(line[0]).ljust(widths[0])
        + "".join(f"  {str(cell).rjust(width)}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in [heads, *lines]
    )


def verdict(all_of_it: dict) -> str:
    total = all_of_it["total"]
    broken = [row["fault"] for row in all_of_it["rows"] if row["problems"]] + list(all_of_it["unended"])
    kept = "The promise was kept under each." if not broken else f"It was not under: {', '.join(broken)}."
    return (
        f"{total['accepted']} jobs accepted in {all_of_it['took_s']:.0f} s under {len(all_of_it['rows'])} faults: "
        f"{total['done']} done, {total['dead']} dead, {total['lost']} lost, {total['double_effects']} done twice. {kept}"
    )
