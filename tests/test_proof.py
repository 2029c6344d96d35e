"""README.md shows what docs/proof.json records, and a record names the commit that it is of."""

from __future__ import annotations

import json
import subprocess

import pytest

from lab import proof


def test_the_table_in_the_readme_is_what_was_recorded() -> None:
    text = proof.README.read_text(encoding="utf-8")
    assert proof.readme(text, json.loads(proof.FILE.read_text(encoding="utf-8"))) == text, "make proof"


def test_a_target_without_a_run_and_one_that_failed_show_as_such() -> None:
    entry = {
        "commit": "abc",
        "date": "2026-11-29",
        "machine": "m",
        "minutes": 2.0,
        "passed": False,
        "result": "8 passed, 1 failed",
    }
    shown = proof.table({"test": entry})
    assert "| `make test` | **failed**: 8 passed, 1 failed | abc | 2026-11-29 | m | 2.0 |" in shown
    assert "Not recorded yet: " in shown and "`make drill`" in shown


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("demo\n\n8 passed, 1 failed\nmake: *** [Makefile:115: test] Error 1\n", "8 passed, 1 failed"),
        ("27 rows, lost 0\n", "27 rows, lost 0"),
        ("", "no output"),
        ("1 passed, 1 failed\n17 passed, 2 failed\n\nTIME ***\n   12 s  Remove the inventory's hosts\n", "17 passed, 2 failed"),
    ],
)
def test_what_a_target_says_last_is_its_result(output: str, line: str) -> None:
    assert proof.last_line(output) == line


@pytest.fixture
def repository(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.test", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/a").write_text("1")
    (tmp_path / "Makefile").write_text("test:\n\t@echo 3 passed, 0 failed\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(proof, "REPOSITORY", tmp_path)
    return git


def test_an_entry_is_stale_once_the_code_has_changed(repository, tmp_path) -> None:
    first = proof.run("test")
    assert (first["passed"], first["result"], proof.stale(first["commit"])) == (True, "3 passed, 0 failed", False)
    (tmp_path / "plugins/a").write_text("2")
    with pytest.raises(SystemExit, match=r"commit these first.*\n.*plugins/a"):
        proof.run("test")
    repository("commit", "-qam", "second")
    assert proof.stale(first["commit"]) and proof.stale("0000000")
