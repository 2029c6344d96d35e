"""`python -m newsroom.migrate`: create what this release needs in the database. Safe to repeat."""

from importlib import resources

import psycopg

LOCK = 0x6E657773  # "news": any number that no other program uses in this database


def main() -> None:
    schema = resources.files("newsroom").joinpath("schema.sql").read_text()
    with psycopg.connect("", prepare_threshold=None, connect_timeout=5) as connection:
        # Until the end of this transaction, so it also works through PgBouncer.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        exists = connection.execute("SELECT to_regclass('videos') IS NOT NULL").fetchone()
        connection.execute(schema)
    print("schema: unchanged" if exists and exists[0] else "schema: created")


if __name__ == "__main__":
    main()
