"""One limit of the fleet and what may be used of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

COUNT, BYTES = "count", "bytes"


@dataclass(frozen=True)
class Part:
    """A part of what is used of a limit, in the limit's unit.  host: empty for the limit's host."""

    what: str
    used: int
    host: str = ""


@dataclass(frozen=True)
class Line:
    """host has ``limit`` of ``what``, and the fleet may use the sum of ``parts`` at once.

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


def parts(pairs: Iterable[tuple[str, int]]) -> tuple[Part, ...]:
    return tuple(Part(what, used) for what, used in pairs)
