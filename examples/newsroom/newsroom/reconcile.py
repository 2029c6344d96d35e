"""`python -m newsroom.reconcile [--republish]`: list this producer's uploads whose video has not ended; publish them again.

After a restore of the database, rows of videos that ended since the restored moment are missing, and the broker has forgotten
their messages. The uploads on the disk still say what was accepted. A video that is also still queued is made once all the same.
"""

import argparse
import os
import sys
import time

from newsroom import files, keys, results, settings
from newsroom.publish import NotConfirmed, publish

# A younger upload may just be published for the first time.
SETTLED_S = 60.0


def unended(store: files.Store) -> list[str]:
    """The keys of uploads without a row that says done or failed, the oldest first."""
    before = time.time() - SETTLED_S
    accepted = [key for key in store.uploads() if keys.accepted_at(key).timestamp() < before]
    ended = results.ended(accepted)
    return [key for key in accepted if key not in ended]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m newsroom.reconcile", description=__doc__.splitlines()[0])
    parser.add_argument("--republish", action="store_true", help="publish their jobs again")
    republish = parser.parse_args().republish
    conf = settings.load(os.environ)
    store = files.Store(conf.data_dir)
    left = unended(store)
    for key in left:
        print(f"{key} accepted {keys.accepted_at(key).isoformat(timespec='seconds')}")
        if republish:
            try:
                publish(key, f"{conf.internal_url}/internal/videos/{key}/{files.UPLOAD}")
            except NotConfirmed as error:
                sys.exit(
                    f"{key} was not confirmed by the broker, so it and later ones were not published: {error}. Run it again."
                )
    print(f"{len(left)} uploads have not ended{', and were published again' if republish and left else ''}.")


if __name__ == "__main__":
    main()
