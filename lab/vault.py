"""The secrets of an inventory, and the forms in which one may be written somewhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lab.playbooks import answer

SHORTEST = 8  # a shorter text occurs everywhere


def secrets_of(inventory: str | Path) -> dict[str, Any]:
    return answer(inventory, "lab/vault.yml")


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Each secret text with its place in the vault; a key in PEM line by line, since a program may break it elsewhere."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{name}[{number}]")
    elif isinstance(value, str) and "BEGIN CERTIFICATE" not in value:  # a certificate is public
        for line in value.splitlines():
            if len(line) >= SHORTEST and not line.startswith("-----"):
                yield name, line


def forms(secret: str) -> dict[str, bytes]:
    """How a secret may be written where anyone can read it. In base64 it looks different at each of three offsets."""
    raw = secret.encode()
    written = {
        "as it is": raw,
        "hexadecimal": raw.hex().encode(),
        "HEXADECIMAL": raw.hex().upper().encode(),
        "UTF-16": secret.encode("utf-16-le"),
        "in JSON": json.dumps(secret)[1:-1].encode(),
        "in JSON, slashes escaped": json.dumps(secret)[1:-1].replace("/", "\\/").encode(),
        "in a URL": quote(secret, safe="").encode(),
    }
    for offset in range(3):
        whole = base64.b64encode(b"\0" * offset + raw)
        # The first and the last group of four depend on the bytes around the secret.
        kept = whole[4 if offset else 0 : len(whole) - 4 if (offset + len(raw)) % 3 else None]
        written[f"base64, {offset} on"] = kept
        written[f"base64 for URLs, {offset} on"] = kept.replace(b"+", b"-").replace(b"/", b"_")
    # A form of a few bytes occurs anywhere. Most secrets look the same in several forms: keep the first name of each.
    first_names = {form: name for name, form in reversed(written.items()) if len(form) >= 6}
    return {name: form for form, name in first_names.items()}
