"""One limit of the fleet: what may be used of it, and what there is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fleet.model import Host

COUNT, BYTES = "count", "bytes"
MIB = 1024**2


@dataclass(frozen=True)
class Part:
    """What takes ``used`` of a limit, in the limit's unit."""

    what: str
    used: int


@dataclass(frozen=True)
class Line:
    """host has ``limit`` of ``what``, and the fleet as described may use the sum of ``parts`` at once.

    unit: COUNT or BYTES.  refusal: the sentence for a fleet that uses more, with both numbers and what to edit.
    """

    host: str
    what: str
    limit: int
    parts: tuple[Part, ...]
    refusal: str
    unit: str = COUNT

    @property
    def used(self) -> int:
        return sum(part.used for part in self.parts)

    @property
    def left(self) -> int:
        return self.limit - self.used

    @property
    def name(self) -> tuple[str, str]:
        return self.host, self.what


def number(host: Host, name: str) -> int | None:
    """A whole number out of the host's inputs, which --extra-vars gives as text; None where there is none."""
    value = host.inputs.get(name)
    try:
        return None if value is None or isinstance(value, bool) else int(value)
    except (TypeError, ValueError):
        return None


def numbers(host: Host, *names: str) -> list[int] | None:
    """All of them, or None as soon as one is unknown: half an account would be a wrong one."""
    found = [number(host, name) for name in names]
    return None if None in found else found


def parts(pairs: Iterable[tuple[str, int]]) -> tuple[Part, ...]:
    return tuple(Part(what, used) for what, used in pairs)


def mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"
