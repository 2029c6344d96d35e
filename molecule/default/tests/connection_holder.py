"""Holds server connections open, through PgBouncer or past it, until standard input ends.

usage: connection_holder.py COUNT [PARAMETERS]     runs in the application's environment; PARAMETERS of libpq go past PgBouncer
Prints {"held": number, "refused": message} as JSON once COUNT are held or one is refused.
Each holds a transaction, so transaction pooling cannot reuse its server connection.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg


def hold(parameters: str) -> psycopg.Connection | str:
    try:
        connection = psycopg.connect(parameters, prepare_threshold=None, connect_timeout=60)
        connection.execute("SELECT 1")
        return connection
    except psycopg.Error as error:
        return str(error).strip()


def main() -> None:
    count, parameters = int(sys.argv[1]), " ".join(sys.argv[2:])
    with ThreadPoolExecutor(max_workers=count) as pool:
        # Past PgBouncer one after another, so the first refusal marks the limit.
        results = [hold(parameters) for _ in range(count)] if parameters else list(pool.map(hold, [parameters] * count))
    refused = [result for result in results if isinstance(result, str)]
    print(json.dumps({"held": count - len(refused), "refused": refused[0] if refused else ""}), flush=True)
    sys.stdin.read()


main()
