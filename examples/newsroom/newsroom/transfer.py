"""Transfers between a worker and the producers that hold the upload, over the private network."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import requests

from newsroom import auth, files

# Seconds to connect, and between two pieces of data; the task's time limit ends a slow transfer.
TIMEOUT = (5, 30)


Result = TypeVar("Result")


class Gone(Exception):
    """The producer does not hold the upload."""


class Refused(Exception):
    """The producer will not take the result, now or later."""


def places(source_url: str, peer_urls: Iterable[str]) -> list[str]:
    """Where the upload may be: at the producer that accepted it, then at every other one."""
    _, internal, path = source_url.partition("/internal/")
    return list(dict.fromkeys([source_url, *(peer + internal + path for peer in peer_urls)]))


def at_first(urls: list[str], attempt: Callable[[str], Result]) -> Result:
    """The result at the first producer that answers and has the job. Gone only if every one answered and none has it."""
    problem: Exception = Gone(urls[0])
    for url in urls:
        try:
            return attempt(url)
        except Gone:
            continue
        except requests.RequestException as error:
            problem = error
    raise problem


def fetch(url: str, token: str, target: Path, limit: int, ca_file: str = "", timeout: tuple[float, float] = TIMEOUT) -> None:
    """`ca_file`: the authorities that vouch for the producer; by default the public ones."""
    verified = {"verify": ca_file or True, "allow_redirects": False}
    with requests.get(url, headers=auth.header(token), timeout=timeout, stream=True, **verified) as answer:
        if answer.status_code == 404:
            raise Gone(url)
        answer.raise_for_status()
        size = files.write(answer.iter_content(files.CHUNK), target, limit)
        if size != int(answer.headers["Content-Length"]):
            raise requests.ConnectionError(f"{url} ended after {size} bytes")


def deliver(source: Path, upload_url: str, token: str, ca_file: str = "") -> int:
    """Store a result with its upload. Returns the size of the stored result, which may be of an earlier run."""
    url = upload_url.rsplit("/", 1)[0] + "/" + source.name
    headers = auth.header(token) | {"Content-Type": files.RESULTS[source.name]}
    with source.open("rb") as body:
        answer = requests.put(url, data=body, headers=headers, timeout=TIMEOUT, verify=ca_file or True, allow_redirects=False)
    if answer.status_code == 404:
        raise Gone(url)
    if answer.status_code == 413:
        raise Refused(f"The finished {source.name} is too large to keep.")
    answer.raise_for_status()
    return int(answer.json()["bytes"])
