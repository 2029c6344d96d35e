"""Counts the rows of every table of a PostgreSQL server, and compares a restored server with the live one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import psql

# A count reads the whole table, on the live database too. Larger tables are restored and listed, but not counted.
COUNTED_MAX = 1024**3

DATABASES_SQL = "SELECT json_agg(datname ORDER BY datname) FROM pg_database WHERE datallowconn AND NOT datistemplate;"
# Prints one array per table: database, schema, table, rows. Rows that are younger than the transaction XID are left out, so the
# count of a table that is at work can only fall, and each later count is a lower bound of each earlier one.
COUNTS_SQL = r"""
SELECT format('SELECT json_build_array(%L, %L, %L, count(*)) FROM ONLY %I.%I WHERE age(xmin) > age(%L::xid)',
              current_database(), n.nspname, c.relname, n.nspname, c.relname, 'XID')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND c.relispopulated AND pg_relation_size(c.oid) <= LIMIT
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY n.nspname, c.relname
\gexec
"""
UNCOUNTED_SQL = """
SELECT json_build_array(current_database(), n.nspname, c.relname, NULL)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND pg_relation_size(c.oid) > LIMIT
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY n.nspname, c.relname;
"""

# A table's name is (database, schema, table); None for one that was not counted.
Counts = dict[tuple[str, str, str], int | None]


@dataclass(frozen=True)
class Server:
    """port, directory: of its socket; directory empty for Debian's.  major: its version."""

    port: int
    major: int
    directory: str = ""

    def ask(self, sql: str, timeout: float = 60) -> str:
        return psql.superuser(sql, self.port, timeout, self.major, self.directory)


def quoted(name: str) -> str:
    return name.replace('"', '""')


def counts(server: Server, xid: str, timeout: float = 600) -> Counts:
    """The rows of every table that are older than the transaction xid."""
    names = json.loads(server.ask(DATABASES_SQL))
    script = [part for name in names for part in (f'\\connect "{quoted(name)}"', COUNTS_SQL, UNCOUNTED_SQL)]
    text = "\n".join(script).replace("XID", str(int(xid))).replace("LIMIT", str(COUNTED_MAX))
    rows = [json.loads(line) for line in server.ask(text, timeout).splitlines() if line.startswith("[")]
    return {(database, schema, table): number for database, schema, table, number in rows}


def as_rows(held: Counts) -> list[list[Any]]:
    """For a result in JSON."""
    return [[*name, number] for name, number in held.items()]


def from_rows(rows: list[list[Any]]) -> Counts:
    return {(database, schema, table): number for database, schema, table, number in rows}


def differences(restored: Counts, before: Counts, after: Counts) -> Iterator[str]:
    """Sentences about tables whose rows are not between the live database's counts before and after the restored moment."""
    for name, most in before.items():
        where = f"the table {name[1]}.{name[2]} of the database {name[0]}"
        least = after.get(name, 0) or 0
        if name not in restored:
            if name in after:
                yield f"{where} is missing"
        elif most is not None and (rows := restored[name]) is not None and not least <= rows <= most:
            expected = f"{most}" if least == most else f"{least} to {most}"
            yield f"{where} has {rows} rows, but the live database had {expected}"
