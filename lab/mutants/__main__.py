"""Break the kit on purpose and see that its tests notice: build/mutants.json."""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.ci.counts import BUILD
from lab.machine import REPOSITORY
from lab.mutants import faults
from lab.mutants.faults import Fault
from lab.mutants.trial import Verdict, try_role

SIDE_BY_SIDE = 2


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()


def record(verdicts: list[Verdict], seconds: float, commit: str) -> dict[str, Any]:
    """What is kept of one role: the commit that was tested, when, and what caught each fault."""
    return {
        "commit": commit,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "count": len(verdicts),
        "caught": sum(verdict.caught for verdict in verdicts),
        "minutes": round(seconds / 60, 1),
        "faults": [
            {
                "fault": verdict.fault.fault,
                "test": verdict.fault.test,
                "caught_by": verdict.by or None,
                "problem": verdict.problem,
                "rebuilt": verdict.rebuilt,
            }
            for verdict in verdicts
        ],
    }


def write_down(role: str, entry: dict[str, Any], path: Path = BUILD / "mutants.json") -> None:
    """Keep a role's record; the records of other roles stay, each with its commit."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(known | {role: entry}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def in_rotation(roles: list[str], commit: str) -> str:
    """One role for each commit, the same one each time."""
    return roles[int(commit, 16) % len(roles)]


def in_turn(asked: list[Fault], commit: str, share: int) -> list[Fault]:
    """Of the faults one in `share`, others for other commits, and all of them over `share` numbers in a row."""
    return asked[int(commit, 16) % share :: share]


def main() -> None:
    known, head = faults.roles(), git("rev-parse", "HEAD")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("roles", nargs="*", metavar="ROLE", help=f"{', '.join(known)}; all of them if none is named")
    parser.add_argument("--only", action="append", metavar="WORDS", help="the faults whose words contain these; not recorded")
    parser.add_argument(
        "--share", type=int, default=1, metavar="N", help="every Nth fault, from one that the commit chooses; not recorded"
    )
    parser.add_argument("--rotate", action="store_true", help="one role, chosen by the commit")
    arguments = parser.parse_args()
    roles = [in_rotation(known, head)] if arguments.rotate else arguments.roles or known
    if unknown := set(roles) - set(known):
        parser.error(f"{min(unknown)} has no faults; there is {', '.join(known)}")
    BUILD.mkdir(exist_ok=True)
    # Of what is copied, not of what is there when a long run ends.
    commit = head + (" with uncommitted changes" if git("status", "--porcelain") else "")

    def timed(role: str) -> tuple[list[Verdict], float]:
        started = time.monotonic()
        asked = [fault for fault in faults.faults_of(role) if any(words in fault.fault for words in arguments.only or [""])]
        return try_role(role, in_turn(asked, head, arguments.share)), time.monotonic() - started

    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for role, (found, seconds) in zip(roles, pool.map(timed, roles), strict=True):
            verdicts += found
            if not arguments.only and arguments.share == 1:
                write_down(role, record(found, seconds, commit))
    caught = sum(verdict.caught for verdict in verdicts)
    print(f"\n{caught} of {len(verdicts)} faults caught; build/mutants.json", flush=True)
    raise SystemExit(0 if verdicts and caught == len(verdicts) else 1)


if __name__ == "__main__":
    main()
