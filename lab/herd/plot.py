"""A plot over time as plain SVG: lines that share their axes, and limits as marks across."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 900, 230
LEFT, RIGHT, TOP, FOOT = 56, 16, 12, 26
# Far below anything measured; powers of ten near the least float come out as 0.
NOTHING = 1e-9


@dataclass(frozen=True)
class Line:
    """A value for each second, None where there is none. `colour` is one of the page's, `dashes` as SVG has them."""

    values: Sequence[float | None]
    colour: str
    dashes: str = ""


@dataclass(frozen=True)
class Mark:
    value: float
    says: str


def nice(most: float) -> float:
    """The least 1, 2 or 5 times a power of ten that is no less; 1 where there is nothing to see."""
    if most < NOTHING:
        return 1.0
    power = 10.0 ** floor(log10(most))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= most * (1 - 1e-9))


def plot(lines: Sequence[Line], marks: Sequence[Mark] = (), logarithmic: bool = False) -> str:
    known = [value for line in lines for value in line.values if value is not None] + [mark.value for mark in marks]
    length = max(1, *(len(line.values) for line in lines))
    most = nice(max(known, default=1))
    least = 10.0 ** floor(log10(max(0.1, min([value for value in known if value > 0], default=0.1))))

    def x(second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * second / length

    def y(value: float) -> float:
        share = log10(max(value, least) / least) / log10(most / least) if logarithmic and most > least else value / most
        return HEIGHT - FOOT - (HEIGHT - FOOT - TOP) * share

    drawn = []
    for tick in ticks(least, most, logarithmic):
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        drawn.append(f'<text class="dim" x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    step = max(1, int(nice(length / 10)))
    for second in range(0, length + 1, step):
        drawn.append(f'<text class="dim" x="{x(second):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{second} s</text>')
    for mark in marks:
        at = y(mark.value)
        drawn.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="var(--bad)" stroke-dasharray="5 4"/>'
        )
        drawn.append(f'<text x="{WIDTH - RIGHT}" y="{at - 4:.1f}" text-anchor="end">{escape(mark.says)}</text>')
    for line in lines:
        dashes = f' stroke-dasharray="{line.dashes}"' if line.dashes else ""
        for stretch in stretches(line.values):
            points = " ".join(f"{x(second + 0.5):.1f},{y(value):.1f}" for second, value in stretch)
            drawn.append(f'<polyline points="{points}" fill="none" stroke="var({line.colour})" stroke-width="1.8"{dashes}/>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(drawn)}</svg>'


def ticks(least: float, most: float, logarithmic: bool) -> list[float]:
    if logarithmic:
        return [10.0**power for power in range(floor(log10(least)), ceil(log10(most)) + 1) if least <= 10.0**power <= most]
    return [most * share / 4 for share in range(5)]


def stretches(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The values with their places, cut where there is none."""
    found: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            found.append([])
        else:
            found[-1].append((place, value))
    return [stretch for stretch in found if stretch]
