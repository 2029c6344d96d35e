"""`python -m ledger.reconcile [--republish]`: list accepted jobs that are not done; publish them again.

Those of this producer by its journal, and those of all producers by the copies in the database.
"""

import argparse
import sys

from ledger import book, journal
from ledger.web import publish

LISTED = 100


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ledger.reconcile", description=__doc__.splitlines()[0])
    parser.add_argument("--republish", action="store_true", help="publish them again")
    republish = parser.parse_args().republish
    accepted = {job[0]: job for job in (*book.noted(), *journal.jobs())}
    done = book.done_of(list(accepted))
    left = [job for key, job in accepted.items() if key not in done]
    for job in left:
        # A job that kills its worker would do so again; it waits among the dead letters.
        if republish and not job[3]:
            try:
                publish(*job)
            except Exception as error:
                sys.exit(f"{job[0]} was not confirmed by the broker: {error}. Run it again once earlier ones are done.")
    for job in left[:LISTED]:
        print(f"{job[0]} number {job[1]}")
    print(
        f"{len(left)} of {len(accepted)} accepted jobs are not done{', and were published again' if republish and left else ''}."
    )


if __name__ == "__main__":
    main()
