"""`python -m newsroom.migrate`: bring the database to what this release needs. Safe again, and on several hosts at once."""

from importlib import resources

import psycopg

LOCK = 0x6E657773  # "news": any number that no other program of this database uses


def main() -> None:
    schema = resources.files("newsroom").joinpath("schema.sql").read_text()
    with psycopg.connect("", prepare_threshold=None, connect_timeout=5) as connection:
        # Held to the end of this transaction, so that it also holds through PgBouncer.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        there = connection.execute("SELECT to_regclass('videos') IS NOT NULL").fetchone()
        connection.execute(schema)
    print("schema: unchanged" if there and there[0] else "schema: created")


if __name__ == "__main__":
    main()
