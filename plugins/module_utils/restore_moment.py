"""The moment to which a database is restored: what it may be, and pgBackRest's options for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

LATEST = "latest"


def moment(text: str) -> datetime | None:
    """The time in the text; None if it is none, or has no offset and so would depend on a time zone.

    >>> moment("2026-11-29 10:00:00+01:00").isoformat()
    '2026-11-29T10:00:00+01:00'
    >>> moment("2026-11-29 10:00:00") is None
    True
    """
    try:
        # PostgreSQL writes an offset of whole hours as +00.
        parsed = datetime.fromisoformat(re.sub(r"([+-]\d\d)$", r"\1:00", text.strip()))
    except ValueError:
        return None
    return parsed if parsed.tzinfo else None


def unreachable_moments(to: str, backups: list[dict[str, Any]], now: datetime) -> Iterator[str]:
    """Why no backup leads to the moment. backups: the complete ones, in their order."""
    if not backups:
        yield "The repository holds no backup of this database. Look at `make status`."
        return
    wanted = None if to == LATEST else moment(to)
    first, last = (datetime.fromtimestamp(backups[place]["timestamp"]["stop"], UTC) for place in (0, -1))
    if to != LATEST and wanted is None:
        yield (
            f"restore_to is '{to}', which is neither latest nor a time with its offset. Write it as in "
            f"-e restore_to='{last:%Y-%m-%d %H:%M:%S}+00:00'."
        )
    elif wanted is not None and wanted > now:
        yield f"restore_to is {to}, but it is only {now:%Y-%m-%d %H:%M:%S}+00:00. Name a moment that has passed, or latest."
    elif wanted is not None and wanted < first:
        yield f"restore_to is {to}, but the oldest backup ended at {first:%Y-%m-%d %H:%M:%S}+00:00. Name a later moment."


def backup_for(to: str, backups: list[dict[str, Any]]) -> dict[str, Any]:
    """The last backup that ended before a moment that is not refused."""
    wanted = None if to == LATEST else moment(to)
    return [held for held in backups if wanted is None or held["timestamp"]["stop"] <= wanted.timestamp()][-1]


def options(to: str) -> list[str]:
    wanted = None if to == LATEST else moment(to)
    if wanted is None:
        return ["--type=default"]
    # In UTC, the form of which PostgreSQL and pgBackRest read alike.
    return ["--type=time", f"--target={wanted.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00", "--target-action=promote"]
