"""`python -m ledger.migrate`: bring the database to what this release needs. Safe again, and on several hosts at once."""

from importlib import resources

from ledger import book

LOCK = 0x6C656467  # "ledg": any number that no other program of this database uses


def main() -> None:
    with book.open_it() as db, db.transaction():
        # Held to the end of this transaction, so that it also holds through PgBouncer.
        db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        db.execute(resources.files("ledger").joinpath("schema.sql").read_text())


if __name__ == "__main__":
    main()
