"""Run one command of a step and count what came of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.ci.counts import BUILD, Count, count
from lab.machine import REPOSITORY

BIN = Path(sys.executable).parent
LAST_LINES = 80
# What pytest says of a failure stands far above the end where a test prints a journal.
REASONS = re.compile(r"^\W*(E  |FAILED |ERROR )")
FIRST_REASONS = 40


@dataclass(frozen=True)
class Step:
    """part: what a person names to have it run.  needs: the step without which this one has nothing to judge.  beside: it waits
    more than it works, and bears that others work meanwhile, so that it runs beside Molecule's scenarios if those run, too."""

    name: str
    part: str
    command: Callable[[str], list[str]]
    # pytest writes its own count there; a step without one counts as one.
    report: Path | None = None
    needs: str = ""
    beside: bool = False


def environment() -> dict[str, str]:
    # The tools call each other by name. What one of them compiled, the hundreds of others find, and the working tree stays clean.
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(BUILD / "bytecode")}
    return {**os.environ, **compiled, "PATH": f"{BIN}:{os.environ['PATH']}"}


def run(step: Step, inventory: str) -> Count:
    print(f"\n=== {step.name}", flush=True)
    return _run(step, inventory)


def run_aside(step: Step, inventory: str, log: Path) -> Count:
    """Beside other work: what it prints goes to ``log``, and its end is shown only if it failed."""
    with log.open("w", encoding="utf-8") as file:
        result = _run(step, inventory, file.fileno())
    tell(step.name, result, log)
    return result


def tell(name: str, result: Count, log: Path) -> None:
    """The line of something that ran beside others; if it failed, the reasons that its log names, and how that ended."""
    shown = excerpt(log.read_text(encoding="utf-8", errors="replace").splitlines()) if result.failed else []
    print("\n".join([result.line(name), *shown]), flush=True)


def excerpt(lines: list[str]) -> list[str]:
    above, end = lines[:-LAST_LINES], lines[-LAST_LINES:]
    reasons = [line for line in above if REASONS.match(line)][:FIRST_REASONS]
    return [*reasons, "[...]", *end] if reasons else end


def _run(step: Step, inventory: str, output: int | None = None) -> Count:
    if step.report:
        step.report.unlink(missing_ok=True)
    started = time.monotonic()
    done = subprocess.run(
        step.command(inventory),
        cwd=REPOSITORY,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        check=False,
    )
    report = step.report.read_text(encoding="utf-8") if step.report and step.report.exists() else None
    result = count(done.returncode, report, bool(step.report))
    result.seconds = time.monotonic() - started
    return result
