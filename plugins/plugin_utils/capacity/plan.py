"""The plan of a fleet as data."""

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
    """refusals: why a run would be refused.  unknown_consumers: workers outside the inventory; None if no broker answered.
    not_measured: hosts that did not answer, so their memory and descriptors are unknown."""

    lines: tuple[Line, ...]
    timers: tuple[Timer, ...]
    rooms: tuple[Room, ...]
    refusals: tuple[str, ...]
    unknown_consumers: tuple[str, ...] | None
    not_measured: tuple[str, ...]

    @property
    def tightest(self) -> Room | None:
        """The room of the application with the fewest: so many workers fit, whichever application they join."""
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
    """What limits the next worker, with both numbers."""
    line = room.stopped_by
    if line is None or room.workers is None:
        return None
    needs = line.used + room.takes.get(line.name, 0) * (room.workers + 1)
    return f"{line.what} of {line.host}: {amount(line, needs)} would be needed, but there are {amount(line, line.limit)}"


def amount(line: Line, value: int) -> str:
    return mib(value) if line.unit == BYTES else str(value)


def plan(fleet: Fleet, refusals: Iterable[str], unknown_consumers: Iterable[str] | None) -> Plan:
    return Plan(
        tuple(lines(fleet)),
        tuple(timers(fleet)),
        tuple(rooms(fleet)),
        tuple(refusals),
        None if unknown_consumers is None else tuple(unknown_consumers),
        tuple(name for name, host in fleet.hosts.items() if not host.measured),
    )


def as_data(capacity: Plan) -> dict[str, Any]:
    """The content of build/plan.json. Sizes are in bytes, timers in seconds."""
    return {
        "workers_that_fit": capacity.workers_that_fit,
        "stopped_by": capacity.stopped_by,
        "applications": {
            room.application: {
                "like": room.like,
                "workers_that_fit": 0 if capacity.refusals else room.workers,
                "stopped_by": capacity.stopped_by if capacity.refusals else reason(room),
                "takes": [{"host": host, "what": what, "more": more} for (host, what), more in room.takes.items()],
            }
            for room in capacity.rooms
        },
        "refusals": list(capacity.refusals),
        "strangers": None if capacity.unknown_consumers is None else list(capacity.unknown_consumers),
        "not_measured": list(capacity.not_measured),
        "lines": [
            {key: getattr(line, key) for key in ("host", "what", "unit", "used", "limit", "left")}
            | {"parts": [{"host": part.host or line.host, "what": part.what, "used": part.used} for part in line.parts]}
            for line in capacity.lines
        ],
        "timers": [
            {key: getattr(timer, key) for key in ("host", "shorter", "seconds", "longer", "limit", "holds")}
            for timer in capacity.timers
        ],
    }
