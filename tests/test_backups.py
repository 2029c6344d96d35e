"""Backups and restores without a host: what is measured, compared, refused and reported."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import (
    backup_status,
    pgbackrest,
    pgbackrest_repository,
    restore_drill,
    restore_moment,
    row_counts,
    scratch_server,
)
from ansible_collections.grunnfjell.platform.plugins.modules import pgbackrest_drill, pgbackrest_restore, pgbackrest_stanza
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports import backups, restore

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ARTICLES = ("news", "public", "articles")


@pytest.mark.parametrize("module", [backup_status, pgbackrest_repository, restore_drill, restore_moment])
def test_the_examples_hold(module: Any) -> None:
    assert doctest.testmod(module).attempted and doctest.testmod(module).failed == 0


def backup(ended: datetime = NOW, lsn: str = "0/5000000", kind: str = "full", **more: Any) -> dict[str, Any]:
    """An entry of `pgbackrest info`."""
    return {
        "label": f"{ended:%Y%m%d-%H%M%S}F",
        "type": kind,
        "error": False,
        "lsn": {"stop": lsn},
        "archive": {"start": "000000010000000000000004"},
        "timestamp": {"stop": int(ended.timestamp())},
        "info": {"size": 2**30, "repository": {"delta": 100, "size": 100}},
        **more,
    }


# --- What pgBackRest reports ---------------------------------------------------------------------------------------------


def test_an_error_of_pgbackrest_is_one_line_with_its_code() -> None:
    output = "P00  ERROR: [055]: unable to load info file '/x'\n            HINT: has a stanza-create been performed?\n"
    error = pgbackrest.failure(output, 55)
    assert (str(error), error.code) == ("unable to load info file '/x'; HINT: has a stanza-create been performed?", 55)
    assert str(pgbackrest.failure("", 7)) == "pgbackrest ended with 7"


def test_an_answer_with_undecrypted_bytes_is_read() -> None:
    """As with a wrong passphrase. Every run measures the repository, also the one that mends it."""
    status = {"code": 99, "message": "bad \x07\ufffdfile\nnext"}
    output = json.dumps([{"status": status, "repo": [{"status": status}]}]).replace("\\u0007", "\x07")
    assert pgbackrest.problem_of(pgbackrest.parsed(output)) == "bad \ufffdfile"
    assert pgbackrest.problem_of(pgbackrest.parsed("[]")) == ""
    with pytest.raises(pgbackrest.PgbackrestError, match="printed no valid JSON"):
        pgbackrest.parsed("[")


def test_a_stanza_that_the_repository_lacks_is_named() -> None:
    assert pgbackrest_stanza.missing({}) == ["stanza", "backup"]
    assert pgbackrest_stanza.missing({"db": [{}], "backup": [backup(error=True)]}) == ["backup"]
    assert pgbackrest_stanza.missing({"db": [{}], "backup": [backup()]}) == []


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        (29, "unable to load info file", "The repository has another passphrase than pgbackrest_repo_cipher_pass."),
        (82, "WAL segment was not archived", "Look at `journalctl -u pgbackrest` on both hosts"),
    ],
)
def test_each_error_of_a_stanza_has_its_advice(code: int, message: str, advice: str) -> None:
    assert advice in pgbackrest_stanza.advice(pgbackrest.PgbackrestError(message, code))


# --- The measured repository ---------------------------------------------------------------------------------------------


def test_a_host_without_a_repository_has_no_sizes(tmp_path: Path) -> None:
    assert pgbackrest_repository.measured(tmp_path / "missing.conf") == {}
    client = tmp_path / "client.conf"
    client.write_text("[global]\nrepo1-host=backup1\n[main]\npg1-path=/x\n")
    assert pgbackrest_repository.measured(client) == {}


def test_a_file_that_vanishes_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/kept").write_text("1234")
    (tmp_path / "archive/gone").symlink_to(tmp_path / "nowhere")
    assert [(Path(name).name, size) for name, size, _ in pgbackrest_repository.sizes(tmp_path)] == [("kept", 4)]


def test_the_size_of_a_type_is_that_of_its_last_backup() -> None:
    held = [backup(), backup(info={"size": 1, "repository": {"delta": 7}}), backup(kind="incr")]
    assert pgbackrest_repository.last_delta(held, "full") == 7
    assert pgbackrest_repository.last_delta(held, "diff") == 0


# --- The status of a cluster ---------------------------------------------------------------------------------------------


def segments_in(archive: Path, *names: str) -> None:
    for name in names:
        (archive / name[:16]).mkdir(parents=True, exist_ok=True)
        (archive / name[:16] / f"{name}-0123.zst").touch()


@pytest.mark.parametrize(
    ("databases", "newest", "failed_over"),
    [
        ("db1", "000000020000000000000005", False),
        ("db1 db2", "000000010000000000000005", False),
        ("db1 db2", "000000020000000000000005", True),
    ],
)
def test_a_failover_since_the_last_backup_of_a_cluster_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: str, newest: str, failed_over: bool
) -> None:
    segments_in(tmp_path / "archive/main/17-1", "000000010000000000000004", newest)
    (tmp_path / "archive/main/17-1/00000002.history").touch()
    monkeypatch.setattr(pgbackrest, "info", lambda *_: {"status": {"code": 0}, "backup": [backup()]})
    wanted = {"databases": databases.split(), "stanza": "main", "path": str(tmp_path), "backup_age_max": 1, "drill_age_max": 1}
    answer = backup_status.backup(wanted, 1)
    assert (answer["database"], answer["failed_over"]) == (databases.replace(" ", ", "), failed_over)
    assert (answer["missing"], answer["newest_wal"]) == ([], newest)


@pytest.mark.parametrize("standby", [True, False])
def test_a_standby_has_no_archive_to_show(monkeypatch: pytest.MonkeyPatch, standby: bool) -> None:
    """Its counters are those of the time when it was the primary."""
    answer = {"standby": standby, "archive_mode": "on", "waiting": 2, "segment_bytes": 16, "archived_s": 9, "failing": True}
    monkeypatch.setattr(backup_status.psql, "superuser", lambda *_: json.dumps(answer))
    archive = backup_status.archive({"repository": ["backup1"], "port": 5432, "queue_max": 99}, 1)
    assert archive == {} if standby else archive["waiting_bytes"] == 32 and "standby" not in archive


def test_a_drill_without_a_mark_supposes_the_loss_now(tmp_path: Path) -> None:
    """As the weekly one, which does not ask the live database."""
    segments_in(tmp_path, "000000010000000000000005", "000000020000000000000006")
    newest = tmp_path / "0000000200000000/000000020000000000000006-0123.zst"
    os.utime(newest, (1000, 1000))
    (tmp_path / "17-1").mkdir()
    for directory in ("0000000100000000", "0000000200000000"):
        (tmp_path / directory).rename(tmp_path / "17-1" / directory)
    held = {"db": [{"version": "15"}, {"version": "17"}], "backup": [backup(lsn="0/5000100")]}
    loss = restore_drill.supposed_loss(held, tmp_path, 1030.04)
    assert loss == {"major": 17, "lsn": "0/6000000", "newest_wal": "000000020000000000000006", "exposure_s": 30.0}
    # A backup that ended in the newest segment can be restored.
    late = held | {"backup": [backup(lsn="0/6000100")]}
    assert restore_drill.supposed_loss(late, tmp_path, 1030.0)["lsn"] == "0/6000100"
    assert restore_drill.supposed_loss({"backup": []}, tmp_path, 1030.0) == {}


def test_a_drill_without_a_backup_is_a_failed_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgbackrest, "info", lambda *_: {"db": [{"version": "17"}], "backup": []})
    paths = {
        "path": str(tmp_path / "a"),
        "sockets": str(tmp_path / "b"),
        "repository": str(tmp_path),
        "config": "x",
        "timeout": 1,
    }
    record = restore_drill.drilled({"stanza": "main", "mark": {}, **paths}, {})
    assert not record["proved"] and "holds no backup yet" in record["problems"][0]


@pytest.mark.parametrize(("tables", "before", "sentences"), [(0, 3, 1), (0, 0, 0), (2, 3, 0)])
def test_a_backup_of_nothing_proves_nothing(tables: int, before: int, sentences: int) -> None:
    last = {"proved": True, "at": "2026-11-22T04:00:00+00:00", "latest": {"tables": before}}
    assert len(restore_drill.emptied({"latest": {"tables": tables}}, last)) == sentences
    assert restore_drill.emptied({"latest": {"tables": tables}}, {}) == []


def test_a_drill_that_was_asked_for_knows_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service finds the mark, and nobody finds it later."""
    monkeypatch.setattr(pgbackrest, "ACCOUNT", tmp_path.owner())
    path = tmp_path / "mark.json"
    seen = []

    def start(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(json.loads(path.read_text()))
        (tmp_path / "last.json").write_text(json.dumps({"restore_point": seen[0]["restore_point"]}))
        return subprocess.CompletedProcess(command, 1, "", "Job failed.\n")

    monkeypatch.setattr(pgbackrest_drill.subprocess, "run", start)
    assert pgbackrest_drill.drilled({"restore_point": "x"}, path, tmp_path) == ({"restore_point": "x"}, "Job failed.")
    assert seen == [{"restore_point": "x"}] and not path.exists()


# --- The proof of a restore ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restored", "before", "after", "sentence"),
    [
        ({ARTICLES: 10}, {ARTICLES: 10}, {ARTICLES: 10}, None),
        ({ARTICLES: 9}, {ARTICLES: 10}, {ARTICLES: 8}, None),
        ({ARTICLES: 10}, {ARTICLES: 10}, {}, None),
        ({}, {ARTICLES: 10}, {}, None),
        ({ARTICLES: None}, {ARTICLES: None}, {ARTICLES: None}, None),
        ({ARTICLES: 9}, {ARTICLES: 10}, {ARTICLES: 10}, "has 9 rows, but the live database had 10"),
        ({ARTICLES: 11}, {ARTICLES: 10}, {ARTICLES: 8}, "has 11 rows, but the live database had 8 to 10"),
        ({}, {ARTICLES: 10}, {ARTICLES: 10}, "the table public.articles of the database news is missing"),
    ],
)
def test_restored_rows_are_between_those_of_the_live_database(
    restored: dict, before: dict, after: dict, sentence: str | None
) -> None:
    found = list(row_counts.differences(restored, before, after))
    assert (found == []) if sentence is None else (len(found) == 1 and sentence in found[0])


def test_counts_survive_their_way_through_ansible() -> None:
    held = {ARTICLES: 3, ("news", "public", "large"): None}
    assert row_counts.from_rows(json.loads(json.dumps(row_counts.as_rows(held)))) == held


MARK = {"next_xid": "800", "marked_at": 1000.0, "lost_at": 1010.0}


@pytest.mark.parametrize(
    ("restored", "seconds"),
    [
        ({"next_xid": "800", "last_commit": 900.0}, 0.0),
        ({"next_xid": "799", "last_commit": 1004.0}, 6.0),
        # Nothing was committed for long before the mark, but the mark itself is restored.
        ({"next_xid": "799", "last_commit": 10.0}, 10.0),
        ({"next_xid": "799", "last_commit": None}, 10.0),
    ],
)
def test_a_loss_is_what_was_committed_after_the_last_restored_commit(restored: dict[str, Any], seconds: float) -> None:
    assert restore_drill.lost_seconds(MARK, restored) == seconds


def test_a_mark_is_restored_from_the_last_backup_that_ended_before_it() -> None:
    early, late, broken = backup(lsn="0/5000000"), backup(lsn="1/0"), backup(lsn="0/6000000", error=True)
    assert restore_drill.backup_before([early, broken, late], "0/F0000000") is early
    assert restore_drill.backup_before([late], "0/F0000000") is None


@pytest.mark.parametrize(
    ("segment", "fetched"),
    [
        ("0000000100000000000000A0", True),
        ("0000000100000000000000A2", False),
        ("00000001.history", True),
        ("00000002.history", False),
    ],
)
def test_a_drill_fetches_no_wal_from_after_the_loss(tmp_path: Path, segment: str, fetched: bool) -> None:
    """By the shell that PostgreSQL starts."""
    program = tmp_path / "pgbackrest"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    command = restore_drill.restore_command("/etc/x.conf", "main", "0000000100000000000000A1").replace("%f", segment)
    done = subprocess.run(["sh", "-c", command], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
    assert (done.returncode == 0) is fetched
    assert "\\" not in command and "'" not in command


def test_a_record_is_dated_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgbackrest, "ACCOUNT", Path(tmp_path).owner())
    monkeypatch.setattr(restore_drill, "KEPT", 2)
    for hour in (1, 2, 3):
        restore_drill.write_record(tmp_path, {"at": f"2026-11-29T0{hour}:00:00+00:00", "proved": True})
    assert [path.name for path in sorted(tmp_path.glob("drills/*"))] == [f"2026-11-29T0{hour}0000+0000.json" for hour in (2, 3)]
    assert json.loads((tmp_path / "last.json").read_text())["at"].startswith("2026-11-29T03")


def test_a_process_that_has_the_number_of_a_dead_server_is_left_alone(tmp_path: Path) -> None:
    scratch = scratch_server.ScratchServer(tmp_path / "home", tmp_path / "sockets", 17)
    scratch.data.mkdir(parents=True)
    sleeping = subprocess.Popen(["sleep", "60"])
    try:
        (scratch.data / "postmaster.pid").write_text(f"{sleeping.pid}\n/data\n")
        scratch.remove()
        assert sleeping.poll() is None and not (tmp_path / "home").exists()
    finally:
        sleeping.kill()
        sleeping.wait()


# --- A restore in place --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        ("latest", None),
        ("2026-11-29 11:00:00+00", None),
        ("2026-11-29 12:30:00+01:00", None),
        ("yesterday", "which is neither latest nor a time with its offset"),
        ("2026-11-29 11:00:00", "which is neither latest nor a time with its offset"),
        ("2026-11-29 12:00:01+00:00", "but it is only 2026-11-29 12:00:00+00:00"),
        ("2026-11-29 09:59:59+00:00", "but the oldest backup ended at 2026-11-29 10:00:00+00:00"),
    ],
)
def test_a_moment_that_cannot_be_restored_is_refused(to: str, sentence: str | None) -> None:
    held = [backup(NOW - timedelta(hours=2)), backup()]
    found = list(pgbackrest_restore.refusals(to, held, 2**31, Path("/data"), NOW))
    assert (found == []) if sentence is None else (len(found) == 1 and sentence in found[0])


def test_a_restore_needs_a_backup_and_room_for_both_directories() -> None:
    assert "holds no backup" in next(pgbackrest_restore.refusals("latest", [], 2**40, Path("/data"), NOW))
    (sentence,) = pgbackrest_restore.refusals("latest", [backup()], 2**29, Path("/data"), NOW)
    assert "has 1.00 GiB, but the disk of /data has 0.50 GiB free" in sentence


def test_a_moment_is_given_to_pgbackrest_in_utc() -> None:
    assert restore_moment.options("latest") == ["--type=default"]
    assert restore_moment.options("2026-11-29 12:30:00.5+01:00")[1] == "--target=2026-11-29 11:30:00.500000+00"


# --- Reports -------------------------------------------------------------------------------------------------------------

ARCHIVE = {
    "archive_mode": "on",
    "waiting": 0,
    "waiting_bytes": 0,
    "archived_s": 9,
    "failing": False,
    "queue_max": 8 * 2**30,
    "repository": "backup1",
}
BACKUP = {
    "database": "db1",
    "problem": "",
    "label": "20261129-010000F",
    "age_s": 3600,
    "full_age_s": 86400,
    "reach_s": 14 * 86400,
    "bytes": 2**20,
    "missing": [],
    "failed_over": False,
    "disk_used": 0.2,
    "age_max_s": 30 * 3600,
    "drill_age_max_s": 10 * 86400,
    "drill": {"age_s": 3600, "proved": True, "problems": [], "rto_s": 5.0, "rpo_s": 12.0, "compared": True},
}


def attention(archive: dict[str, Any], held: dict[str, Any]) -> list[str]:
    report = {"archives": {"db1": ARCHIVE | archive, "db2": {"error": "x"}}, "backups": {"backup1": BACKUP | held}}
    return list(backups.backups_attention(report))


def test_sound_backups_need_no_attention_and_have_their_lines() -> None:
    assert attention({}, {}) == []
    rows = dict(backups.backup_rows({"archives": {"db1": ARCHIVE}, "backups": {"backup1": BACKUP}}))
    assert rows == {
        "archive": "db1: last WAL archived 9 s ago, 0 MiB wait for backup1",
        "backup": "backup1: db1, 20261129-010000F, 60 min ago, 1 MiB; disk 20% full",
        "drill": "backup1: db1 restored 60 min ago, RPO 12 s, RTO 5 s",
    }


def test_a_drill_that_did_not_ask_the_live_database_gives_a_bound() -> None:
    alone = BACKUP | {"drill": BACKUP["drill"] | {"compared": False}}
    rows = dict(backups.backup_rows({"archives": {}, "backups": {"backup1": alone}}))
    assert rows["drill"] == "backup1: db1 restored 60 min ago, RPO at most 12 s, RTO 5 s"


@pytest.mark.parametrize(
    ("archive", "held", "sentence"),
    [
        ({"archive_mode": "off"}, {}, "db1: archive_mode is off, so no WAL is archived"),
        ({"failing": True, "waiting_bytes": 2**24}, {}, "no WAL reached backup1 for 9 s, and 16 MiB wait. At 8192 MiB"),
        ({"failing": True, "archived_s": None}, {}, "no WAL reached backup1, and 0 MiB wait"),
        ({"waiting_bytes": 2 * 2**30}, {}, "and 2048 MiB wait"),
        ({}, {"problem": "unable to load"}, "the repository of db1 cannot be read: unable to load"),
        ({}, {"label": None}, "there is no backup of db1: systemctl start grunnfjell-backup@full"),
        ({}, {"age_s": 31 * 3600}, "is 31.0 h old, but the limit is 30.0 h (pgbackrest_backup_age_max)"),
        ({}, {"full_age_s": 9 * 86400}, "the last full backup of db1 is 9 d old, and every other one needs it"),
        ({}, {"missing": ["0A"]}, "WAL of db1 after 0A is missing, so no later moment can be restored"),
        (
            {},
            {"failed_over": True},
            "db1 failed over since the last backup, so WAL that only the former primary had may be missing",
        ),
        ({}, {"disk_used": 0.81}, "the repository's disk is 81% full"),
        ({}, {"drill": None}, "no restore of db1 was ever tried: make restore-drill"),
        (
            {},
            {"drill": BACKUP["drill"] | {"age_s": 11 * 86400}},
            "was 11 d ago, but the limit is 10 d (pgbackrest_drill_age_max)",
        ),
        ({}, {"drill": BACKUP["drill"] | {"proved": False, "problems": ["no"]}}, "failed 60 min ago: no"),
    ],
)
def test_each_fault_of_backups_is_named(archive: dict[str, Any], held: dict[str, Any], sentence: str) -> None:
    (line,) = attention(archive, held)
    assert sentence in line


RECORD = {
    "stanza": "main",
    "backup": "20261129-010000F",
    "bytes": 2**20,
    "proved": True,
    "problems": [],
    "rpo_s": 9.0,
    "lost_s": 1.0,
    "exposure_s": 9.0,
    "latest": {"rto_s": 5.0, "rows": 7, "tables": 2, "uncounted": ["news.public.large"]},
    "point": {"rto_s": 4.0, "rows": 7, "tables": 2, "uncounted": []},
}


def test_a_drill_is_reported_with_its_figures() -> None:
    lines, problems = restore.sentences({"backup1": RECORD}, {})
    assert problems == [] and "RPO 9 s" in lines[1]
    assert lines[2].endswith("in service after 5 s, 7 rows in 2 tables, 1 tables too large to count")


def test_a_drill_that_proved_nothing_is_a_failure() -> None:
    _, problems = restore.sentences({"backup1": RECORD | {"proved": False, "problems": ["point: a row is missing"]}}, {})
    assert problems == ["backup1: the restore of main is not proved: point: a row is missing."]
    assert "Nothing was restored" in restore.sentences({}, {})[1][0]


def test_a_restore_in_place_says_what_is_lost_and_where_the_old_data_is() -> None:
    restored = {
        "to": "latest",
        "bytes": 31 * 1024**2,
        "rto_s": 9.3,
        "timeline": 2,
        "proved_rows": 400,
        "rpo_s": 5.5,
        "kept": "/old",
    }
    text = " ".join(restore.in_place("db1", restored))
    assert "in service after 9.3 s" in text and "at most 5.5 s of commits" in text and "The old data is in /old." in text
    blank = " ".join(restore.in_place("db1", restored | {"rpo_s": None, "kept": ""}))
    assert "an unknown time of commits" in blank and "There was no old data to keep." in blank
