"""A client on a host of the scenario that commits one row after another, and notes each that was acknowledged.

writer.py NOTES SECONDS reads libpq's connection string from standard input. A line of NOTES is a row's number and the time of its
acknowledgement. After an error it connects again to whichever server takes writes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psycopg2


def write(connection_string: str, notes: Path, seconds: float) -> None:
    until, number, connection = time.monotonic() + seconds, 0, None
    with notes.open("w", buffering=1, encoding="utf-8") as acknowledged:
        while time.monotonic() < until:
            number += 1
            try:
                if connection is None:
                    connection = psycopg2.connect(connection_string)
                with connection, connection.cursor() as cursor:
                    cursor.execute("INSERT INTO acknowledged (number) VALUES (%s)", (number,))
                acknowledged.write(f"{number} {time.time():.3f}\n")
            except psycopg2.Error:
                connection = None
                time.sleep(0.05)  # the server is away: try again, not as fast as the processor can
            else:
                time.sleep(0.01)


if __name__ == "__main__":
    write(sys.stdin.read(), Path(sys.argv[1]), float(sys.argv[2]))
