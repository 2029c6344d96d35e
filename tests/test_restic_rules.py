"""The arithmetic and the rules of role restic, and the programs that it puts on hosts."""

from __future__ import annotations

import doctest
import importlib.machinery
import importlib.util
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import restic as restic_client
from ansible_collections.grunnfjell.platform.plugins.module_utils import restic_repository, restic_status
from ansible_collections.grunnfjell.platform.plugins.modules import restic_drill, restic_restore
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports import file_backups, restore
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import restic

PROGRAMS = Path(__file__).resolve().parents[1] / "roles/restic/files/usr/local/lib/grunnfjell"
CLIENT = {
    "repository_hosts": {"backup1": "10.0.0.9"},
    "repository": "web1",
    "repositories": [],
    "logins": {},
    "listen_address": "",
    "paths": ["/var/lib/newsroom"],
    "backup_hours": 24,
    "jitter": 1800,
    "login": "0123456789abcdef",
    "password": "0123456789abcdef",
}
STORE = CLIENT | {
    "repository_hosts": {},
    "repositories": ["web1"],
    "logins": {"web1": "0123456789abcdef"},
    "listen_address": "10.0.0.9",
}


def program(name: str) -> ModuleType:
    """A program of the role, loaded without running it."""
    loader = importlib.machinery.SourceFileLoader(f"grunnfjell_{name.replace('-', '_')}", str(PROGRAMS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


@pytest.mark.parametrize("module", [restic, restic_client, restic_repository])
def test_the_examples_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


# --- Inputs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [CLIENT, STORE, CLIENT | {"repository_hosts": "backup1"}, CLIENT | {"paths": "/x"}])
def test_inputs_that_work_have_no_problem_and_wrong_types_are_left_to_the_specs(inputs: dict[str, Any]) -> None:
    assert restic.restic_problems(inputs) == []


@pytest.mark.parametrize(
    "inputs, sentence",
    [
        (CLIENT | {"repository_hosts": {}}, "are both empty"),
        (CLIENT | {"repositories": ["web1"]}, "a host either has files or keeps repositories"),
        (CLIENT | {"paths": []}, "restic_paths is empty"),
        (CLIENT | {"paths": ["/"]}, "restic_paths names '/'"),
        (CLIENT | {"paths": ["/srv/../etc"]}, "restic_paths names '/srv/../etc'"),
        (CLIENT | {"paths": ["/srv/"]}, "restic_paths names '/srv/'"),
        (CLIENT | {"paths": ["/var/tmp/x"]}, "which the backup cannot see"),
        (CLIENT | {"backup_hours": 7}, "does not divide a day"),
        (CLIENT | {"backup_hours": 1, "jitter": 1801}, "must be at most 1800"),
        (CLIENT | {"repository": "../web2"}, "restic_repository is '../web2'"),
        (CLIENT | {"login": ""}, "restic_login is empty"),
        (CLIENT | {"login": "a word@of a person"}, "restic_login is part of a URL"),
        (CLIENT | {"password": ""}, "restic_password is empty"),
        (STORE | {"listen_address": ""}, "restic_listen_address is empty"),
        (STORE | {"repositories": ["web:1"], "logins": {"web:1": "x"}}, "restic_repositories names 'web:1'"),
        (STORE | {"logins": {}}, "has no login for it"),
    ],
)
def test_an_input_that_cannot_work_has_a_sentence(inputs: dict[str, Any], sentence: str) -> None:
    (problem,) = restic.restic_problems(inputs)
    assert sentence in problem


def test_a_host_with_files_and_a_repository_host_need_different_memory() -> None:
    store, client = Host("b1", inputs={"restic_repositories": ["web1"]}), Host("web1", inputs={"restic_repositories": []})
    assert [part for host in (store, client) for part, _ in restic.memory_parts(host) or []] == ["rclone", "a backup of files"]


# --- The program of a host with files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "output, sentence",
    [
        ("Fatal: wrong password or no key found\n", "the repository has another key than restic_password"),
        ("Fatal: unable to open config file: unexpected HTTP response (401): 401 Unauthorized", "does not know the login"),
        ("blob not removed, server response: 403 Forbidden (403)", "allows this login no other repository"),
        ("x509: certificate signed by unknown authority", "the certificates of the two hosts do not fit"),
        ("using cache\nFatal: repository contains errors\n", "repository contains errors"),
        ("no space left\n", "no space left"),
        ("", "restic ended with 1"),
    ],
)
def test_a_failure_of_restic_is_one_line_with_advice(output: str, sentence: str) -> None:
    assert sentence in program("restic").fault(output, 1)


def test_a_backup_names_files_that_could_not_be_read_and_leaves_out_those_that_are_gone(tmp_path, monkeypatch) -> None:
    """As restic 0.14 and 0.18 report them on standard error."""
    run = program("restic")
    unread = tmp_path / "unread"
    unread.touch()
    errors = "\n".join(
        [
            json.dumps({"message_type": "error", "error": {"Op": "open"}, "during": "archival", "item": str(unread)}),
            json.dumps(
                {"message_type": "error", "error": {"message": "x"}, "during": "archival", "item": str(tmp_path / "gone")}
            ),
            "Warning: at least one source file could not be read",
        ]
    )
    summary = {"message_type": "summary", "snapshot_id": "0123456789", "total_files_processed": 2, "total_bytes_processed": 3}
    answer = '{"message_type":"status"}\n' + json.dumps(summary | {"data_added": 1, "total_duration": 0.5})
    monkeypatch.setattr(run, "missing", lambda *_: False)
    monkeypatch.setattr(run, "predecessor", lambda *_: "")
    monkeypatch.setattr(run, "ask", lambda *_: (3, answer, errors))
    entry = run.back_up({"paths": [str(tmp_path)], "exclude": [], "repository": "web1"}, "backup1", "2026-11")
    assert (entry["unread"], entry["unread_first"], entry["files"]) == (1, str(unread), 2)
    monkeypatch.setattr(run, "ask", lambda *_: (1, "", "Fatal: full"))
    with pytest.raises(run.Failed, match="full"):
        run.back_up({"paths": [str(tmp_path)], "exclude": [], "repository": "web1"}, "backup1", "2026-11")
    with pytest.raises(run.Failed, match="correct restic_paths"):
        run.back_up({"paths": ["/nonexistent"], "exclude": [], "repository": "web1"}, "backup1", "2026-11")


def test_a_blank_machine_backs_nothing_up_until_the_files_of_its_predecessor_are_restored(tmp_path, monkeypatch) -> None:
    """Its backup would be the latest, and the next restore would bring back what is blank."""
    run = program("restic")
    config = {"repository_hosts": {"backup1": "10.0.0.9:8433"}, "full_every": "month", "paths": [str(tmp_path)], "exclude": []}
    held = json.dumps([{"time": "2026-11-28T10:00:00.1Z"}, {"time": "2026-11-29T10:00:00.1Z"}])
    monkeypatch.setattr(run, "STATE", tmp_path)
    monkeypatch.setattr(run, "missing", lambda *_: False)
    monkeypatch.setattr(run, "ask", lambda *_: (0, held, ""))
    for begins in (
        lambda: run.back_up(config, "backup1", "2026-11"),
        lambda: list(run.look(config, ["backup1"], "2026-11", run.prepare)),
        lambda: list(run.look(config, ["backup1"], "2026-11", run.missing)),
    ):
        with pytest.raises(run.Failed, match=f"{restic_client.REPLACED}, the last of 2026-11-29T10:00:00 UTC.*restore_files.yml"):
            begins()
    run.adopt(config)
    assert run.predecessor(config, "backup1") == ""
    run.record("backup1", "failed", {"at": "2026-11-30T10:00:00+00:00"})
    assert run.predecessor(config, "backup1") == "", "a failed backup forgets that the machine has its files"


@pytest.mark.parametrize(
    ("now", "looked"), [((2026, 3, 31), ["2026-03", "2026-02"]), ((2026, 3, 1), ["2026-03", "2026-02", "2026-01"])]
)
def test_a_predecessor_of_the_month_before_is_found(monkeypatch, tmp_path, now, looked) -> None:
    run, asked = program("restic"), []

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(*now, tzinfo=UTC)

    monkeypatch.setattr(run, "STATE", tmp_path)
    monkeypatch.setattr(run, "datetime", Clock)
    monkeypatch.setattr(run, "missing", lambda config, host, period: asked.append(period) or True)
    assert run.predecessor({"full_every": "month"}, "backup1") == "" and asked == looked


def test_a_success_ends_the_record_of_a_failure(tmp_path, monkeypatch) -> None:
    run = program("restic")
    monkeypatch.setattr(run, "STATE", tmp_path)
    run.record("backup1", "failed", {"problem": "away"})
    run.record("backup2", "succeeded", {"files": 1})
    assert run.recorded() == {"backup1": {"failed": {"problem": "away"}}, "backup2": {"succeeded": {"files": 1}}}
    run.record("backup1", "succeeded", {"files": 2})
    assert run.recorded()["backup1"] == {"succeeded": {"files": 2}}


def test_the_program_and_the_library_name_a_period_alike() -> None:
    run, moment = program("restic"), datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    for full_every in ("week", "month"):
        assert restic_client.periods(moment, full_every)[0] == run.period_of(moment, full_every)


# --- Retention -------------------------------------------------------------------------------------------------------------

NOW = 1_800_000_000.0


def repository(home: Path, name: str, days: float | None) -> Path:
    """A repository whose last backup is so many days old; None: without one."""
    directory = home / name
    (directory / "snapshots").mkdir(parents=True)
    files = [directory / "config"] + ([directory / "snapshots/abc"] if days is not None else [])
    for file in files:
        file.touch()
        os.utime(file, (NOW - (days or 0) * 86400,) * 2)
    return directory


def test_only_repositories_older_than_the_retention_expire(tmp_path) -> None:
    old, kept = repository(tmp_path / "web1", "2026-01", 31), repository(tmp_path / "web1", "2026-02", 29)
    former = repository(tmp_path / "web9", "2026-01", 31)
    (tmp_path / "web1/notes").mkdir()
    (tmp_path / "lost+found").mkdir()
    assert program("restic-retention").expired(tmp_path, 30, {"web1"}, NOW) == [old, former]
    assert kept.exists()


def test_repositories_are_measured_by_the_times_at_which_their_files_arrived(tmp_path) -> None:
    unit, home = tmp_path / "unit", tmp_path / "repositories"
    assert restic_repository.measured(unit) == {}
    unit.write_text(f"[Service]\nExecStart=/usr/bin/rclone serve restic --cache-dir /tmp {home}\n")
    assert restic_repository.measured(unit) == {}
    for name, days, size in (("web1/2026-10/a", 0, 1000), ("web1/2026-10/b", 11, 500), ("web2/2026-W48/a", 3, 70)):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(bytes(size))
        os.utime(home / name, (days * 86400, days * 86400))
    found = restic_repository.measured(unit)
    assert found["repositories"] == {
        "web1": {"first_bytes": 1000, "bytes_per_day": 50, "period_days": 31},
        "web2": {"first_bytes": 70, "bytes_per_day": 0, "period_days": 7},
    }
    assert found["held_bytes"] == 1570 < found["disk_bytes"]


def test_the_newest_repository_of_a_host_that_still_backs_up_stays(tmp_path) -> None:
    """Also if one without a backup is younger, as one is that a host could not write to."""
    repository(tmp_path / "web1", "2026-01", 99)
    older = repository(tmp_path / "web1", "2025-12", 120)
    empty = repository(tmp_path / "web1", "2026-02", None)
    os.utime(empty / "config", (NOW - 86400,) * 2)
    assert program("restic-retention").expired(tmp_path, 30, {"web1"}, NOW) == [older]


# --- Restores --------------------------------------------------------------------------------------------------------------


def test_the_last_snapshot_before_a_moment_is_found_in_an_earlier_period(monkeypatch) -> None:
    held = {
        "2026-11": [
            {"time": "2026-11-30T23:00:00.123456789Z", "short_id": "a"},
            {"time": "2026-11-29T23:00:00Z", "short_id": "b"},
        ]
    }

    def run(*arguments: str, **_: Any) -> str:
        if arguments[3] not in held:
            raise restic_client.ResticError(f"Fatal: no config {restic_client.NO_REPOSITORY}")
        return json.dumps(held[arguments[3]])

    monkeypatch.setattr(restic_client, "run", run)
    moment = datetime(2026, 12, 1, 0, 30, tzinfo=UTC)
    assert restic_client.snapshot_before("backup1", moment, "month") == ("2026-11", held["2026-11"][0])
    day_before = datetime(2026, 11, 30, tzinfo=UTC)
    assert restic_client.snapshot_before("backup1", day_before, "month") == ("2026-11", held["2026-11"][1])
    assert restic_client.snapshot_before("backup1", datetime(2026, 11, 1, tzinfo=UTC), "month") is None


@pytest.mark.parametrize(
    "path, over, sentence",
    [
        ("srv", "", "not the absolute path"),
        ("/srv/../etc", "", "not the absolute path"),
        ("/nonexistent/x", "", "/nonexistent does not exist"),
        ("/etc/hosts", "/etc", "name the same path in both"),
        ("/proc", "/proc", "is a mount point"),
    ],
)
def test_a_path_that_cannot_be_restored_has_a_sentence(path: str, over: str, sentence: str) -> None:
    with pytest.raises(restic_restore.Refused, match=sentence):
        restic_restore.check_names(path, over)


def test_a_path_with_signs_of_patterns_is_taken_literally() -> None:
    assert restic_restore.unglobbed("/srv/a [1]*?.jpg") == r"/srv/a \[1\]\*\?.jpg"


def test_what_is_replaced_is_kept_and_put_back_when_the_exchange_fails(tmp_path) -> None:
    live, restored = tmp_path / "uploads", tmp_path / "scratch"
    for directory, name in ((live, "now"), (restored, "then")):
        directory.mkdir()
        (directory / name).touch()
    kept = restic_restore.exchange(restored, live, "X")
    assert kept == tmp_path / "uploads.before-restore-X" and (kept / "now").exists() and (live / "then").exists()
    with pytest.raises(FileNotFoundError):
        restic_restore.exchange(tmp_path / "missing", live, "Y")
    assert (live / "then").exists()


def test_only_a_file_that_is_as_in_the_backup_is_compared(tmp_path) -> None:
    file = tmp_path / "a"
    file.write_text("text")
    os.utime(file, (NOW, NOW))
    entry = {"path": str(file), "size": 4, "mtime": datetime.fromtimestamp(NOW, UTC).isoformat()}
    assert restic_drill.unchanged(entry)
    assert not restic_drill.unchanged(entry | {"size": 5}) and not restic_drill.unchanged(entry | {"path": f"{file}x"})
    os.utime(file, (NOW + 1, NOW + 1))
    assert not restic_drill.unchanged(entry)


# --- Reports ---------------------------------------------------------------------------------------------------------------

BACKUP = {"age_s": 3600, "files": 5, "bytes": 1024**2, "added_bytes": 1, "unread": 0, "unread_first": "", "failed_s": None}
ANSWER = {
    "backups": {"backup1": BACKUP | {"problem": ""}},
    "drill": {"proved": True, "problems": [], "files_opened": 3, "age_s": 60},
    "interval_s": 86400,
    "drill_age_max_s": 8 * 86400,
}


def answer(**changes: Any) -> dict[str, Any]:
    return ANSWER | {"backups": {"backup1": ANSWER["backups"]["backup1"] | changes}}


@pytest.mark.parametrize(
    "state, sentence",
    [
        (answer(age_s=49 * 3600), "the last backup of its files on backup1 is 49.0 h old, but the limit is two intervals, 48 h"),
        (answer(age_s=None), "backup1 has no backup of its files: systemctl start grunnfjell-restic-backup"),
        (answer(age_s=None, problem="away", failed_s=3), "backup1 has no backup of its files (away)"),
        (answer(problem="away", failed_s=60), "the backup of its files to backup1 failed"),
        (answer(unread=2, unread_first="/srv/x"), "lacks 2 files that could not be read, e.g. /srv/x"),
        (ANSWER | {"drill": None}, "no restore of its files was ever tried: make restore-drill"),
        (
            ANSWER | {"drill": {"proved": False, "problems": ["a differs"]}},
            "the last restore drill of its files failed: a differs",
        ),
        (ANSWER | {"drill": ANSWER["drill"] | {"age_s": 9 * 86400}}, "(restic_drill_age_max): make restore-drill"),
        ({"repositories": {}, "disk_used": 0.9}, "the disk of the file backups is 90% full"),
    ],
)
def test_status_has_a_sentence_for_each_fault(state: dict[str, Any], sentence: str) -> None:
    (line,) = file_backups.files_attention({"files": {"web1": state}})
    assert line.startswith("web1: ") and sentence in line


def test_status_has_no_sentence_for_backups_that_are_well() -> None:
    report = {
        "files": {"web1": ANSWER, "b1": {"repositories": {"web1": 60, "web2": None}, "disk_used": 0.1}, "x": {"error": "x"}}
    }
    assert list(file_backups.files_attention(report)) == []
    assert [text for _, text in file_backups.files_rows(report)] == [
        "web1: 5 files, 1 MiB, on backup1 60 min ago",
        "b1: of web1, last written 60 s ago",
        "b1: of web2, no backup",
    ]


def test_a_host_reports_the_ages_of_its_backups(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(restic_client, "RECORD", tmp_path / "backups.json")
    monkeypatch.setattr(restic_client, "DRILL", tmp_path / "drill.json")
    wanted = {"repositories": [], "repository_hosts": {"backup1": "10.0.0.9"}, "backup_hours": 6, "drill_age_max": 8, "path": "/"}
    assert restic_status.files(wanted)["backups"]["backup1"]["age_s"] is None
    at = datetime.now(UTC).isoformat()
    (tmp_path / "backups.json").write_text(
        json.dumps({"backup1": {"succeeded": {"at": at, "files": 1}, "failed": {"at": at, "problem": "x"}}})
    )
    (tmp_path / "drill.json").write_text(json.dumps({"at": at, "proved": True, "problems": [], "files_opened": 2}))
    state = restic_status.files(wanted)
    assert state["interval_s"] == 6 * 3600 and state["drill"]["files_opened"] == 2
    assert state["backups"]["backup1"]["age_s"] < 60 and state["backups"]["backup1"]["problem"] == "x"


def test_a_repository_host_reports_when_each_host_last_wrote(tmp_path) -> None:
    repository(tmp_path / "web1", "2026-01", 1)
    state = restic_status.repositories(tmp_path, ["web1", "web2"], NOW)
    assert state["repositories"] == {"web1": 86400, "web2": None} and 0 < state["disk_used"] < 1


def test_a_drill_of_files_alone_is_a_drill() -> None:
    record = {"proved": True, "problems": [], "files_opened": 3, "bytes": 1024**2, "seconds": 1.5}
    lines, problems = restore.sentences({}, {"web1": record})
    assert problems == [] and lines == ["web1: 3 files, 1 MiB, were read from the backups and equal the live ones (1.5 s)."]
    _, problems = restore.sentences({}, {"web1": record | {"proved": False, "problems": ["backup1: a differs"]}})
    assert problems == ["web1: the backup of its files is not proved: backup1: a differs."]
