"""A plot over time as data for templates/reports: lines with shared axes, in a box of 100 by 100."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

# Far below all measurements; powers of ten near the smallest float become 0.
NOTHING = 1e-9


@dataclass(frozen=True)
class Line:
    """A value for each second, None for a gap. `tone` is a colour of style.css; an area is filled down to 0."""

    values: Sequence[float | None]
    tone: str
    dashed: bool = False
    area: bool = False


@dataclass(frozen=True)
class Mark:
    """A limit across the plot."""

    value: float
    text: str


@dataclass(frozen=True)
class Band:
    """A period, in seconds."""

    start: float
    end: float
    tone: str


def nice(most: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is not less; 1 without data."""
    if most < NOTHING:
        return 1.0
    power = 10.0 ** floor(log10(most))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= most * (1 - 1e-9))


def plot(
    lines: Sequence[Line], marks: Sequence[Mark] = (), bands: Sequence[Band] = (), logarithmic: bool = False, small: bool = False
) -> dict[str, Any]:
    """For the macro `lines` of parts.html.j2; y counts downwards. A small plot has fewer ticks."""
    known = [value for line in lines for value in line.values if value is not None] + [mark.value for mark in marks]
    length = max(1, *(len(line.values) for line in lines))
    most = nice(max(known, default=1))
    least = 10.0 ** floor(log10(max(0.1, min([value for value in known if value > 0], default=0.1))))

    def x(second: float) -> str:
        return f"{100 * second / length:.2f}"

    def y(value: float) -> str:
        share = log10(max(value, least) / least) / log10(most / least) if logarithmic and most > least else value / most
        return f"{100 - 100 * share:.2f}"

    def points(segment: Iterable[tuple[int, float]]) -> str:
        return " ".join(f"{x(second + 0.5)},{y(value)}" for second, value in segment)

    step = max(1, int(nice(length / (2 if small else 10))))
    values = decades(least, most) if logarithmic else [most * share / 4 for share in range(0, 5, 2 if small else 1)]
    drawn = [(line, segment) for line in lines for segment in segments(line.values)]
    return {
        "x": [{"at": x(second), "text": f"{second} s"} for second in range(0, length + 1, step)],
        "y": [{"at": y(value), "text": f"{value:,g}"} for value in values],
        "marks": [{"at": y(mark.value), "text": mark.text} for mark in marks],
        "bands": [
            {"at": x(band.start), "width": f"{max(0.6, 100 * (band.end - band.start) / length):.2f}", "tone": band.tone}
            for band in bands
        ],
        "areas": [
            {"tone": line.tone, "points": f"{x(segment[0][0] + 0.5)},100 {points(segment)} {x(segment[-1][0] + 0.5)},100"}
            for line, segment in drawn
            if line.area
        ],
        "lines": [
            {"tone": line.tone, "dashed": line.dashed, "points": points(segment)} for line, segment in drawn if not line.area
        ],
    }


def decades(least: float, most: float) -> list[float]:
    return [10.0**power for power in range(floor(log10(least)), ceil(log10(most)) + 1) if least <= 10.0**power <= most]


def segments(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The values with their seconds, split at each gap."""
    parts: list[list[tuple[int, float]]] = [[]]
    for second, value in enumerate(values):
        if value is None:
            parts.append([])
        else:
            parts[-1].append((second, value))
    return [part for part in parts if part]
