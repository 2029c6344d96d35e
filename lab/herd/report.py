"""The herd's report: build/herd.json, and the table for people."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lab.herd.figures import Run, figures, time_line, verdict
from lab.herd.page import ROWS
from lab.reports import columns


def report_data(bouncer: Run, direct: Run, facts: dict, began: float, sent: int) -> dict:
    """`facts`: cap, granted, refusal and conditions, from the fleet's plan and this run."""
    arms = [figures(bouncer), figures(direct)]
    lines = verdict(*arms, facts["cap"], sent)
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


def table(arms: Sequence[dict]) -> str:
    rows = [["", *(arm["name"] for arm in arms)], *([name, *(text(arm) for arm in arms)] for name, text in ROWS)]
    return "\n".join(f"  {line}" for line in columns(rows))


def sentences(lines: Sequence[dict]) -> str:
    return "\n".join(f"  {'✓' if line['holds'] else '✗'} {line['says']}" for line in lines)
