"""How many tests passed and failed, and the file that records it."""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass, field

from lab.machine import BUILD


@dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = field(default=0.0, compare=False)

    def __add__(self, other: Count) -> Count:
        sums = (self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)
        return Count(*sums, self.seconds + other.seconds)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")

    def line(self, name: str) -> str:
        return f"  {'FAILED' if self.failed else 'ok':6}  {name:22} {self.seconds:6.1f} s   {self}"


def count(returncode: int, report: str | None, reports: bool) -> Count:
    """The count of a step. One that failed, or that should have left a report and did not, never counts as passed."""
    if report is None:
        passed = returncode == 0 and not reports
        return Count(passed=int(passed), failed=int(not passed))
    suites = list(ElementTree.fromstring(report).iter("testsuite"))
    number = {key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")}
    failed = number["failures"] + number["errors"]
    passed = number["tests"] - failed - number["skipped"]
    if returncode or not number["tests"]:
        failed = max(failed, 1)
    return Count(passed, failed, number["skipped"])


def record(results: dict[str, Count]) -> None:
    """Record counts and durations in build/test.json; the results of steps that did not run this time stay."""
    path = BUILD / "test.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    ended = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    new = {name: asdict(result) | {"seconds": round(result.seconds, 1), "ended": ended} for name, result in results.items()}
    path.write_text(json.dumps(known | new, indent=2) + "\n", encoding="utf-8")
