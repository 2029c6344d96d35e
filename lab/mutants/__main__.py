"""Break the kit on purpose and check that its tests notice: build/mutants.json."""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.machine import BUILD, git, in_turn
from lab.mutants import faults
from lab.mutants.trial import Verdict, try_role

PARALLEL = 2


def record(verdicts: list[Verdict], seconds: float, commit: str) -> dict[str, Any]:
    """The record of one role: the tested commit, the date, and what caught each fault."""
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


def keep(role: str, entry: dict[str, Any], path: Path = BUILD / "mutants.json") -> None:
    """Write a role's record; those of other roles stay, each with its commit."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(known | {role: entry}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def in_rotation(roles: list[str], commit: str) -> str:
    """The role for a commit, always the same."""
    return roles[int(commit, 16) % len(roles)]


def main() -> None:
    known, head = faults.roles(), git("rev-parse", "HEAD").strip()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("roles", nargs="*", metavar="ROLE", help=f"{', '.join(known)}; default: all")
    parser.add_argument("--only", action="append", metavar="WORDS", help="only faults with these words; not recorded")
    parser.add_argument(
        "--share", type=int, default=1, metavar="N", help="every Nth fault, starting where the commit says; not recorded"
    )
    parser.add_argument("--rotate", action="store_true", help="one role, chosen by the commit")
    arguments = parser.parse_args()
    roles = [in_rotation(known, head)] if arguments.rotate else arguments.roles or known
    if unknown := set(roles) - set(known):
        parser.error(f"{min(unknown)} has no faults; choose from {', '.join(known)}")
    BUILD.mkdir(exist_ok=True)
    # Now, when the tree is copied, not at the end of a long run.
    commit = head + (" with uncommitted changes" if git("status", "--porcelain") else "")

    def timed(role: str) -> tuple[list[Verdict], float]:
        started = time.monotonic()
        wanted = [fault for fault in faults.faults_of(role) if any(words in fault.fault for words in arguments.only or [""])]
        return try_role(role, in_turn(wanted, head, arguments.share)), time.monotonic() - started

    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(PARALLEL) as pool:
        for role, (outcome, seconds) in zip(roles, pool.map(timed, roles), strict=True):
            verdicts += outcome
            if not arguments.only and arguments.share == 1:
                keep(role, record(outcome, seconds, commit))
    caught = sum(verdict.caught for verdict in verdicts)
    print(f"\n{caught} of {len(verdicts)} faults caught; build/mutants.json", flush=True)
    raise SystemExit(0 if verdicts and caught == len(verdicts) else 1)


if __name__ == "__main__":
    main()
