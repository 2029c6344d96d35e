"""A pytest plugin: a skip that lab/ci/skips.yml does not allow is a failure, so none of them can hide a promise that nobody asks.

pyproject.toml loads it for every test of the tree. With `CI` in the environment only the entries with `in_ci: true` hold.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ENTRIES = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))


def allowed(reason: str, in_ci: bool) -> bool:
    return any(re.fullmatch(entry["reason"], reason) and (entry["in_ci"] or not in_ci) for entry in ENTRIES)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if not allowed(reason, bool(os.environ.get("CI"))):
            report.outcome = "failed"
            report.longrepr = f"skipped, which lab/ci/skips.yml does not allow{' in CI' * allowed(reason, False)}: {reason}"
    return report
