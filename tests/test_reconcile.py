"""What producers keep of accepted jobs, by which they are found again after a restore of the database."""

import importlib
import json
import os
import sys
from types import ModuleType

import pytest
from newsroom import files, keys


class Away(Exception):
    """What psycopg raises while the database does not answer."""


@pytest.fixture
def journal(tmp_path, monkeypatch):
    monkeypatch.setenv("LEDGER_JOURNAL", str(tmp_path / "accepted"))
    import ledger

    psycopg, book = ModuleType("psycopg"), ModuleType("ledger.book")
    psycopg.Error, book.note = Away, lambda jobs, kept_days: None
    monkeypatch.setitem(sys.modules, "psycopg", psycopg)
    monkeypatch.setitem(sys.modules, "ledger.book", book)
    monkeypatch.setattr(ledger, "book", book, raising=False)
    sys.modules.pop("ledger.journal", None)
    return importlib.import_module("ledger.journal")


def test_every_accepted_job_is_in_the_journal_with_all_that_publishing_it_again_needs(journal):
    journal.write("a", 1, 0.2, False)
    journal.write("b", 2, 0.0, True)
    assert list(journal.jobs()) == [["a", 1, 0.2, False], ["b", 2, 0.0, True]]


def test_a_line_that_a_crash_cut_off_does_not_hide_the_others(journal, tmp_path):
    journal.write("a", 1, 0.2, False)
    (file,) = (tmp_path / "accepted").iterdir()
    file.write_text(file.read_text() + '["b", 2')
    assert [key for key, *_ in journal.jobs()] == ["a"]


def test_the_database_gets_a_copy_of_every_job_also_after_it_was_away(journal, monkeypatch):
    copies = []

    def note(jobs, kept_days):
        if not copies:
            copies.append("away")
            raise Away
        copies.extend(jobs)

    monkeypatch.setattr(journal, "COPY_EVERY_S", 3600)
    monkeypatch.setattr(journal.book, "note", note)
    journal.write("a", 1, 0.2, False)
    journal.write("b", 2, 0.2, False)
    journal.copy()
    assert copies == ["away"]
    journal.write("c", 3, 0.2, False)
    journal.copy()
    assert copies == ["away", ["a", 1, 0.2, False], ["b", 2, 0.2, False], ["c", 3, 0.2, False]]


def test_the_journal_is_kept_for_longer_than_backups_and_not_for_ever(journal, tmp_path):
    folder = tmp_path / "accepted"
    folder.mkdir()
    for day in range(1, 29):
        (folder / f"2026-01-{day:02}.jsonl").write_text(json.dumps([f"day {day}", 1, 0.0, False]) + "\n")
    journal.write("today", 1, 0.0, False)
    kept = [key for key, *_ in journal.jobs()]
    assert len(kept) == journal.KEPT_DAYS + 1 and kept[-1] == "today" and "day 28" in kept and "day 7" not in kept


def test_without_a_directory_there_is_no_journal(journal, monkeypatch):
    monkeypatch.delenv("LEDGER_JOURNAL")
    importlib.reload(journal)
    journal.write("a", 1, 0.2, False)
    assert list(journal.jobs()) == []


def test_uploads_are_listed_from_the_oldest_on_without_anything_else_on_the_disk(tmp_path):
    store = files.Store(tmp_path)
    assert store.uploads() == []
    young, old = keys.new_key(now=2_000_000_000), keys.new_key(now=1_000_000_000)
    for key in (young, old):
        with store.receive() as received:
            received.write_bytes(b"a video")
            store.keep(received, key, files.UPLOAD)
    os.makedirs(store.jobs / "not-a-key")
    (store.jobs / "not-a-key" / files.UPLOAD).write_bytes(b"")
    os.makedirs(store.jobs / keys.new_key(now=1_500_000_000))
    assert store.uploads() == [old, young]
