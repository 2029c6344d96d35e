"""A client on a host of the scenario that commits one row after another, and notes each that was acknowledged.

writer.py DIRECTORY SECONDS reads libpq's connection string from the file dsn. A line of notes is a row's number and the time of
its acknowledgement, a line of errors is an error. After one it connects again. A file named stop ends it early.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psycopg2


def write(directory: Path, seconds: float) -> None:
    connection_string = (directory / "dsn").read_text(encoding="utf-8")
    until, number, connection = time.monotonic() + seconds, 0, None
    with (directory / "notes").open("w", buffering=1) as acknowledged, (directory / "errors").open("w", buffering=1) as errors:
        while time.monotonic() < until and not (directory / "stop").exists():
            number += 1
            try:
                if connection is None:
                    connection = psycopg2.connect(connection_string)
                with connection, connection.cursor() as cursor:
                    cursor.execute("INSERT INTO acknowledged (number) VALUES (%s)", (number,))
                acknowledged.write(f"{number} {time.time():.3f}\n")
            except psycopg2.Error as error:
                errors.write(" ".join(str(error).split()) + "\n")
                connection = None
                time.sleep(0.05)  # the server is away: try again, not as fast as the processor can
            else:
                time.sleep(0.01)  # a client's pause between two transactions


if __name__ == "__main__":
    write(Path(sys.argv[1]), float(sys.argv[2]))
