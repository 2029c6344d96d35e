"""Molecule's scenarios, several side by side, and beside them what waits more than it works."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.ci.counts import BUILD, Count
from lab.ci.running import BIN, Step, environment, tell
from lab.machine import REPOSITORY

# Each keeps about one core busy.
SIDE_BY_SIDE = 2


def scenarios() -> list[str]:
    """The longest first, so that the last one does not run alone for long."""
    longest = ["rabbitmq", "producer", "celery_worker", "postgresql", "pgbouncer"]
    names = [path.parent.name for path in (REPOSITORY / "molecule").glob("*/molecule.yml")]
    return sorted(names, key=lambda name: (longest.index(name) if name in longest else len(longest), name))


def run_scenario(name: str) -> Count:
    """`molecule test` of one scenario. Its tests count as what they are, and the runs between them as one."""
    verified, log = BUILD / f"molecule/{name}.jsonl", BUILD / f"molecule/{name}.log"
    verified.unlink(missing_ok=True)
    started = time.monotonic()
    command = [str(BIN / "molecule"), "test", "--scenario-name", name]
    plain = {"MOLECULE_COMMAND_BORDERS": "0", "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment() | plain, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        )
    lines = verified.read_text(encoding="utf-8").splitlines() if verified.exists() else []
    result = sum((Count(**json.loads(line)) for line in lines), Count())
    if done.returncode == 0 and lines:
        result.passed += 1
    elif not result.failed:
        result.failed += 1
    result.seconds = time.monotonic() - started
    tell(f"molecule {name}", result, log)
    return result


def run_scenarios(beside: Sequence[Step], one: Callable[[Step, Path], Count]) -> dict[str, Count]:
    """All scenarios; the steps in ``beside`` fill, ``one`` after another, what those leave of the machine."""
    (BUILD / "molecule").mkdir(parents=True, exist_ok=True)
    names = scenarios()
    also = f", and {', '.join(step.name for step in beside)}" if beside else ""
    print(f"\n=== molecule, {SIDE_BY_SIDE} scenarios side by side{also}; what each printed is in build/molecule/", flush=True)

    def one_after_another() -> dict[str, Count]:
        return {step.name: one(step, BUILD / f"molecule/{step.name}.log") for step in beside}

    with ThreadPoolExecutor(SIDE_BY_SIDE + 1) as pool:
        aside = pool.submit(one_after_another)
        # The pool's third place is free again once these are done, and the last scenarios have it.
        results = dict(zip([f"molecule {name}" for name in names], pool.map(run_scenario, names), strict=True))
        return aside.result() | results
