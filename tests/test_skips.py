"""A skip that nobody allowed is a failure, in CI and elsewhere."""

from __future__ import annotations

import ast

import pytest

from lab.ci import skips
from lab.machine import REPOSITORY

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("reason", "ci", "outcome"),
    [
        ("PostgreSQL is on another host", "true", {"skipped": 1}),
        ("no ffmpeg here", "", {"skipped": 1}),
        ("no ffmpeg here", "true", {"failed": 1}),
        ("I had no time", "", {"failed": 1}),
    ],
)
def test_a_skip_counts_as_a_failure_unless_it_is_allowed(pytester: pytest.Pytester, monkeypatch, reason, ci, outcome) -> None:
    monkeypatch.setenv("CI", ci)
    pytester.makepyfile(f"import pytest\ndef test_it(): pytest.skip({reason!r})\n")
    run = pytester.runpytest_inprocess("-p", "lab.ci.skips")
    run.assert_outcomes(**outcome)
    if "failed" in outcome:
        run.stdout.fnmatch_lines([f"*skipped, which lab/ci/skips.yml does not allow*: {reason}"])


def test_each_entry_says_why_it_hides_no_promise() -> None:
    assert [entry for entry in skips.ENTRIES if set(entry) != {"reason", "why", "in_ci"} or not entry["why"]] == []


def reasons() -> list[str]:
    """Every reason given to pytest.skip in the tree; a value that is put into one counts as "x"."""
    texts = []
    for path in [*REPOSITORY.glob("molecule/**/*.py"), *REPOSITORY.glob("tests/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.skip":
                parts = getattr(node.args[0], "values", node.args)
                texts.append("".join(part.value if isinstance(part, ast.Constant) else "x" for part in parts))
    return texts


def test_every_reason_in_the_tree_is_allowed() -> None:
    texts = reasons()
    assert len(texts) > 10 and [text for text in texts if not skips.allowed(text, in_ci=False)] == []
