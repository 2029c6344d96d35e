"""Reports of the lab's tools: build/NAME.json and build/NAME.html, and tables of plain text."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.machine import BUILD


def write_report(name: str, data: Mapping[str, Any], page: str, build: Path = BUILD) -> None:
    build.mkdir(exist_ok=True)
    (build / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    (build / f"{name}.html").write_text(page, encoding="utf-8")


def columns(rows: Sequence[Sequence[object]], left: Collection[int] = (0,)) -> list[str]:
    """Rows of cells, each column as wide as its widest cell; the columns in `left` are aligned left, the others right.

    >>> columns([["host", "index"], ["a", 81]])
    ['host  index', 'a        81']
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    ]
