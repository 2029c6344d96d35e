"""A job's key: a UUID of version 7, which sorts by time and contains the moment of acceptance."""

import re
import secrets
import time
from datetime import UTC, datetime
from uuid import UUID

_KEY = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def new_key(now: float | None = None) -> str:
    milliseconds = int((time.time() if now is None else now) * 1000)
    value = (milliseconds << 80) | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76  # the version
    value = value & ~(0x3 << 62) | 0x2 << 62  # the variant
    return str(UUID(int=value))


def is_key(text: str) -> bool:
    return _KEY.fullmatch(text) is not None


def accepted_at(key: str) -> datetime:
    return datetime.fromtimestamp((UUID(key).int >> 80) / 1000, UTC)
