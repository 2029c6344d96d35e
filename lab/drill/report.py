"""The drill's report: build/drill.json, build/drill.html, and the table for people."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lab.drill.page import page, seconds
from lab.drill.rows import BIN_S, Row
from lab.reports import columns, write_report

SUMMED = ("accepted", "done", "dead", "lost", "second_deliveries", "cut", "double_effects", "unpromised")


@dataclass
class Report:
    began: float
    rate: float
    rows: list[Row] = field(default_factory=list)
    lines: dict[str, dict] = field(default_factory=dict)
    # Faults without a row, with the reason.
    unended: dict[str, str] = field(default_factory=dict)
    # The totals of the whole ledger at the end, and what is wrong with them.
    ledger: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": 2,
            "began": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.began)),
            "took_s": round(time.time() - self.began, 1),
            "rate": self.rate,
            "kept": bool(self.rows) and not (self.unended or self.problems or any(row.problems for row in self.rows)),
            "total": {name: sum(getattr(row, name) for row in self.rows) for name in SUMMED},
            "ledger": self.ledger,
            "problems": self.problems,
            "unended": self.unended,
            "rows": [asdict(row) | {"recovery_s": row.recovery_s, "limit_s": row.limit_s} for row in self.rows],
            "bin_s": BIN_S,
            "time_lines": self.lines,
        }

    def write(self) -> None:
        data = self.as_dict()
        write_report("drill", data, page(data))

    def print_verdict(self) -> None:
        print("\n" + table(self.rows) + f"\n\n{verdict(self.as_dict())}", flush=True)


def announce(row: Row) -> None:
    print(f"  {sentence(row)}", flush=True)
    for name, value in row.evidence.items():
        print(f"    {name}: {value}", flush=True)
    for problem in row.problems:
        print(f"  ✗ {problem}", file=sys.stderr, flush=True)


def sentence(row: Row) -> str:
    return (
        f"{row.accepted} accepted, {row.done} done, {row.dead} dead, {row.lost} lost; {row.second_deliveries} delivered twice, "
        f"{row.double_effects} effects twice; recovered after {seconds(row.recovery_s)}; none accepted for "
        f"{seconds(row.accept_gap_s)}, none done for {seconds(row.work_gap_s)}; "
        f"{row.unavailable_share:.2%} of the answers were 503"
    )


def table(rows: Sequence[Row]) -> str:
    heads = ("fault", "accepted", "done", "dead", "lost", "2nd deliv.", "cut", "2nd effects", "outage", "recovery", "of", "")
    lines = [
        (
            row.fault, row.accepted, row.done, row.dead, row.lost, row.second_deliveries, row.cut, row.double_effects,
            seconds(row.outage_s), seconds(row.recovery_s), seconds(row.limit_s), "✗" if row.problems else "✓",
        )
        for row in rows
    ]  # fmt: skip
    return "\n".join(f"  {line}" for line in columns([heads, *lines]))


def verdict(data: dict[str, Any]) -> str:
    total = data["total"]
    broken = [row["fault"] for row in data["rows"] if row["problems"]] + list(data["unended"])
    kept = "The promise was kept under each." if data["kept"] else f"It was broken under: {', '.join(broken) or 'no single one'}."
    return (
        f"{total['accepted']} jobs accepted in {data['took_s']:.0f} s under {len(data['rows'])} faults: "
        f"{total['done']} done, {total['dead']} dead, {total['lost']} lost, {total['double_effects']} done twice. {kept}"
        + "".join(f"\n✗ {row['fault']}: {problem}" for row in data["rows"] for problem in row["problems"])
        + "".join(f"\n✗ {problem}" for problem in data["problems"])
    )
