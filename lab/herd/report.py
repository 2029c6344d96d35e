"""What the herd leaves behind: build/herd.json, build/herd.html with its plots, and the table that a person reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.herd.figures import Run, figures, time_line, verdict
from lab.herd.page import ROWS, page


def told(bouncer: Run, direct: Run, facts: dict, began: float, asked: int) -> dict:
    """`facts`: cap, granted, refusal and conditions, as the fleet's own plan and this run have them."""
    arms = [figures(bouncer), figures(direct)]
    lines = verdict(*arms, facts["cap"], asked)
    return {
        "schema": 1,
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(began)),
        "took_s": round(time.time() - began, 1),
        "kept": all(line["holds"] for line in lines),
        "verdict": lines,
        **facts,
        "arms": arms,
        "time_lines": {run.name: time_line(run) for run in (bouncer, direct)},
    }


def write(all_of_it: dict, build: Path) -> None:
    (build / "herd.json").write_text(json.dumps(all_of_it, indent=2) + "\n", encoding="utf-8")
    (build / "herd.html").write_text(page(all_of_it), encoding="utf-8")


def table(arms: Sequence[dict], rows: Sequence[tuple[str, Callable[[dict], str]]] = ROWS) -> str:
    cells = [["", *(arm["name"] for arm in arms)], *([what, *(shown(arm) for arm in arms)] for what, shown in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(arms) + 1)]
    return "\n".join(
        "  "
        + line[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in cells
    )


def sentences(lines: Sequence[dict]) -> str:
    return "\n".join(f"  {'✓' if line['holds'] else '✗'} {line['says']}" for line in lines)
