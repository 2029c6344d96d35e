"""Everything that plan tells of a fleet, as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..fleet.model import Fleet
from ..fleet.units import mib
from .line import BYTES, Line
from .room import Room, lines, rooms
from .timers import Timer, timers


@dataclass(frozen=True)
class Plan:
    """refusals: why a run would be refused.  strangers: workers outside the inventory; None when no broker could be asked.
    not_measured: hosts that did not answer, so that their memory and descriptors are unknown."""

    lines: tuple[Line, ...]
    timers: tuple[Timer, ...]
    rooms: tuple[Room, ...]
    refusals: tuple[str, ...]
    strangers: tuple[str, ...] | None
    not_measured: tuple[str, ...]

    @property
    def tightest(self) -> Room | None:
        """Of several applications the one whose next worker is stopped first: so many fit, whichever they join."""
        return min(self.rooms, key=lambda room: float("inf") if room.workers is None else room.workers, default=None)

    @property
    def workers_that_fit(self) -> int | None:
        return 0 if self.refusals else self.tightest and self.tightest.workers

    @property
    def stopped_by(self) -> str | None:
        if self.refusals:
            return self.refusals[0]
        return self.tightest and reason(self.tightest)


def reason(room: Room) -> str | None:
    """What stops the next worker, with both numbers."""
    line = room.stopped_by
    if line is None or room.workers is None:
        return None
    needs = line.used + room.takes.get(line.name, 0) * (room.workers + 1)
    return f"{line.what} of {line.host}: {amount(line, needs)} would be needed, and there are {amount(line, line.limit)}"


def amount(line: Line, value: int) -> str:
    return mib(value) if line.unit == BYTES else str(value)


def plan(fleet: Fleet, refusals: Iterable[str], strangers: Iterable[str] | None) -> Plan:
    return Plan(
        tuple(lines(fleet)),
        tuple(timers(fleet)),
        tuple(rooms(fleet)),
        tuple(refusals),
        None if strangers is None else tuple(strangers),
        tuple(name for name, host in fleet.hosts.items() if not host.measured),
    )


def as_data(made: Plan) -> dict[str, Any]:
    """What goes to build/plan.json. Sizes are in bytes, timers in seconds."""
    return {
        "workers_that_fit": made.workers_that_fit,
        "stopped_by": made.stopped_by,
        "applications": {
            room.application: {
                "like": room.like,
                "workers_that_fit": 0 if made.refusals else room.workers,
                "stopped_by": made.stopped_by if made.refusals else reason(room),
                "takes": [{"host": host, "what": what, "more": more} for (host, what), more in room.takes.items()],
            }
            for room in made.rooms
        },
        "refusals": list(made.refusals),
        "strangers": None if made.strangers is None else list(made.strangers),
        "not_measured": list(made.not_measured),
        "lines": [
            {
                "host": line.host,
                "what": line.what,
                "unit": line.unit,
                "used": line.used,
                "limit": line.limit,
                "left": line.left,
                "parts": [{"host": part.host or line.host, "what": part.what, "used": part.used} for part in line.parts],
            }
            for line in made.lines
        ],
        "timers": [
            {
                "host": timer.host,
                "shorter": timer.shorter,
                "seconds": timer.seconds,
                "longer": timer.longer,
                "limit": timer.limit,
                "holds": timer.holds,
            }
            for timer in made.timers
        ],
    }
