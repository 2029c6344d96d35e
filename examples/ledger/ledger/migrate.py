"""`python -m ledger.migrate`: create what this release needs in the database. Safe to repeat."""

from importlib import resources

from ledger import book

LOCK = 0x6C656467  # "ledg": any number that no other program uses in this database


def main() -> None:
    with book.connect() as db, db.transaction():
        # Until the end of this transaction, so it also works through PgBouncer.
        db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        db.execute(resources.files("ledger").joinpath("schema.sql").read_text())


if __name__ == "__main__":
    main()
