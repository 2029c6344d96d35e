"""A producer's client, over HTTPS."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lab.demo import trust

TIMEOUT_S = 60
# More than any producer accepts; it refuses by the announced length, so no such file is needed.
OVER_ANY_LIMIT = 1 << 40


@dataclass(frozen=True)
class Answer:
    status: int
    seconds: float
    location: str
    body: str


def post(base: str, content: bytes | Path, announced: int | None = None) -> Answer:
    body = content.read_bytes() if isinstance(content, Path) else content
    address = urlsplit(base)
    connection = http.client.HTTPSConnection(address.hostname, address.port, timeout=TIMEOUT_S, context=trust.context())
    began = time.monotonic()
    try:
        connection.putrequest("POST", "/videos")
        connection.putheader("Content-Type", "application/octet-stream")
        connection.putheader("Content-Length", str(len(body) if announced is None else announced))
        connection.endheaders(body)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    return Answer(answer.status, time.monotonic() - began, answer.headers.get("Location", ""), text)


def look(location: str) -> dict:
    """What a Location reports about its job; empty if it does not answer."""
    try:
        with urllib.request.urlopen(location, timeout=TIMEOUT_S, context=trust.context()) as answer:
            return json.load(answer)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return {}


def download(url: str, path: Path) -> Path:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=trust.context()) as answer:
        path.write_bytes(answer.read())
    return path
