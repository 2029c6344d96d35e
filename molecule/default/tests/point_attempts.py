"""Who tries to get in, and from where."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lab.exposure.intruders import Answer
from lab.exposure.points import Point
from lab.machine import REPOSITORY

ATTEMPTS = str(REPOSITORY / "molecule/shared/attempts.py")


def attempt(point: Point, how: str, **what: object) -> Answer:
    done = point.run([sys.executable, ATTEMPTS], stdin=json.dumps({"how": how} | what))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return Answer(answer["in"], answer["said"])


@contextmanager
def listener(point: Point, port: int) -> Iterator[None]:
    """Somebody who takes connections at every address of that place, for as long as the block lasts."""
    command = point.there([sys.executable, ATTEMPTS, "listen", "0.0.0.0", str(port)])
    listening = subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert listening.stdout.readline().strip() == "listening", listening.stderr.read()
        yield
    finally:
        listening.stdin.close()
        listening.wait(timeout=30)
