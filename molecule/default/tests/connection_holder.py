"""Holds server connections open, through PgBouncer or past it, for as long as its standard input is.

usage: holding.py COUNT [HOST]     runs in the application's own environment
Prints {"held": number, "refused": sentence} as JSON once COUNT are held, or the first one is refused.
Each holds a transaction, so that transaction pooling can lend its server connection to nobody else.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg


def hold(where: str) -> psycopg.Connection | str:
    try:
        connection = psycopg.connect(where, prepare_threshold=None, connect_timeout=60)
        connection.execute("SELECT 1")
        return connection
    except psycopg.Error as error:
        return str(error).strip()


def main() -> None:
    count, where = int(sys.argv[1]), " ".join(sys.argv[2:])
    with ThreadPoolExecutor(max_workers=count) as pool:
        # Past PgBouncer one after another, so that the first refusal is the limit.
        found = list(pool.map(hold, [where] * count)) if not where else [hold(where) for _ in range(count)]
    refused = [each for each in found if isinstance(each, str)]
    held = [each for each in found if not isinstance(each, str)]
    print(json.dumps({"held": len(held), "refused": refused[0] if refused else ""}), flush=True)
    sys.stdin.read()


main()
