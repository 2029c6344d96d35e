"""Run one command of a step and count its result."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.ci.counts import Count, count
from lab.machine import BIN, BUILD, REPOSITORY

LAST_LINES = 80
# pytest's lines about a failure are far above the end if a test prints a journal.
REASONS = re.compile(r"^\W*(E  |FAILED |ERROR )")
FIRST_REASONS = 40


@dataclass(frozen=True)
class Step:
    """part: the argument that selects it. needs: the step without which it has nothing to test. lane: it is not timing sensitive,
    so it may run alongside Molecule's scenarios and other lanes, after the steps of its lane; empty: alone."""

    name: str
    part: str
    command: Callable[[str], list[str]]
    # pytest's JUnit report; a step without one counts as one test.
    report: Path | None = None
    needs: str = ""
    lane: str = ""


def environment() -> dict[str, str]:
    # The tools call each other by name. They share one cache of bytecode, outside the working tree.
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(BUILD / "bytecode")}
    return {**os.environ, **bytecode, "PATH": f"{BIN}:{os.environ['PATH']}"}


def run(step: Step, inventory: str, log: Path | None = None) -> Count:
    """Show the output; or, for a step in a lane, write it to `log` and show its end only after a failure."""
    if log:
        with log.open("w", encoding="utf-8") as file:
            result = _run(step, inventory, file.fileno())
        show_result(step.name, result, log)
        return result
    print(f"\n=== {step.name}", flush=True)
    return _run(step, inventory)


def show_result(name: str, result: Count, log: Path) -> None:
    """The line of a step in a lane; after a failure also the reasons in its log, and the log's end."""
    lines = excerpt(log.read_text(encoding="utf-8", errors="replace").splitlines()) if result.failed else []
    print("\n".join([result.line(name), *lines]), flush=True)


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
