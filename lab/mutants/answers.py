"""The verdict on one test in pytest's report: only an assertion of that test counts as a failure."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from typing import Literal

# How pytest begins the message of `assert`, `pytest.fail` and `pytest.raises`. A broken connection, fixture or import begins
# differently, and proves nothing about the fault.
ASSERTION = re.compile(r"assert |AssertionError\b|Failed: ")
# `(sentence,) = refusals()` asserts the number, if it is in the test itself.
COUNTED = re.compile(r"ValueError: (not enough|too many) values to unpack")


@dataclass(frozen=True)
class Answer:
    """message: the assertion that failed, or why the test gave no verdict."""

    verdict: Literal["passed", "failed", "none"]
    message: str = ""


def asserts(failure: ElementTree.Element, file: str) -> bool:
    message, place = failure.get("message", ""), (failure.text or "").rstrip().rpartition("\n")[2]
    return bool(ASSERTION.match(message)) or bool(COUNTED.match(message) and place.startswith(f"{file}:"))


def answer(report: str | None, node: str) -> Answer:
    """The verdict of one test (file.py::name), over all its hosts and parameters; `report` is pytest's JUnit file."""
    file, _, name = node.rpartition("::")
    if report is None:
        return Answer("none", "pytest ended without a report")
    cases = list(ElementTree.fromstring(report).iter("testcase"))
    named = [case for case in cases if case.get("name", "").partition("[")[0] == name]
    for case in named:
        failure = case.find("failure")
        if failure is not None and asserts(failure, file):
            return Answer("failed", failure.get("message", ""))
    for case in named or cases:
        for problem in (case.find("failure"), case.find("error")):
            if problem is not None:
                return Answer("none", problem.get("message", ""))
    if any(case.find("skipped") is None for case in named):
        return Answer("passed")
    return Answer("none", f"no test called {name} ran" if not named else f"{name} was skipped")
