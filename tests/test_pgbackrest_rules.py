"""The arithmetic and the rules of role pgbackrest."""

from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.disks import disk_lines
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals.backups import partial_clusters
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import pgbackrest

ROLES = Path(__file__).resolve().parents[1] / "roles"
INPUTS = {
    "repository_hosts": [],
    "database_hosts": ["db1"],
    "stanza": "main",
    "full_weekdays": ["Sun"],
    "backup_time": "01:00",
    "drill_weekdays": ["Wed"],
    "drill_time": "04:00",
    "incremental_hours": 6,
    "repo_cipher_pass": "0123456789abcdef",
}
MIB = 1024**2
MEASURED = {
    "full_bytes": 1000 * MIB,
    "diff_bytes": 100 * MIB,
    "incr_bytes": 10 * MIB,
    "wal_bytes_per_day": 50 * MIB,
    "database_bytes": 4000 * MIB,
    "disk_bytes": 20000 * MIB,
}


def repository(measured: dict[str, Any], **inputs: Any) -> Host:
    known = {
        "pgbackrest_database_hosts": ["db1"],
        "pgbackrest_process_max": 2,
        "pgbackrest_repo_retention_full": 14,
        "pgbackrest_incremental_hours": 6,
        "pgbackrest_full_weekdays": ["Sun"],
    }
    return Host("backup1", frozenset({"pgbackrest"}), inputs=known | inputs, measured={"backups": measured})


def test_the_examples_hold() -> None:
    assert doctest.testmod(pgbackrest).attempted and doctest.testmod(pgbackrest).failed == 0


def test_both_roles_install_the_same_postgresql() -> None:
    """A drill starts the restored database with the programs of the repository host."""
    versions = [
        yaml.safe_load((ROLES / role / "vars/main.yml").read_text())[f"__{role}_versions"]
        for role in ("pgbackrest", "postgresql")
    ]
    assert versions[0] == versions[1]


def test_archiving_closes_a_segment_every_quarter_of_a_minute() -> None:
    assert pgbackrest.pgbackrest_archiving("main") == {
        "archive_mode": "on",
        "archive_command": "pgbackrest --stanza=main archive-push %p",
        "archive_timeout": 15,
    }
    assert pgbackrest.pgbackrest_archiving("main", 60)["archive_timeout"] == 60


def test_options_are_the_role_s_and_then_the_operator_s() -> None:
    own = {"process-max": 2, "repo1-bundle": True, "archive-async": False, "repo1-host": "", "tls-server-auth": ["a=x", "b=x"]}
    assert pgbackrest.pgbackrest_lines(own, {"compress-level": 6}) == [
        "process-max=2",
        "repo1-bundle=y",
        "archive-async=n",
        "tls-server-auth=a=x",
        "tls-server-auth=b=x",
        "compress-level=6",
    ]


@pytest.mark.parametrize(
    ("added", "sentence"),
    [
        ({"process-max": 4}, "pgbackrest_parameters names process-max, which the role sets itself"),
        ({"compress-level": "6\nrepo1-path=/"}, "pgbackrest_parameters has a line break in compress-level"),
    ],
)
def test_a_wrong_option_is_refused(added: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AnsibleFilterError, match=sentence):
        pgbackrest.pgbackrest_lines({"process-max": 2}, added)


def test_a_full_backup_on_every_day_leaves_none_for_a_differential_one() -> None:
    assert set(pgbackrest.pgbackrest_calendars(list(pgbackrest.WEEKDAYS), "01:00", 0)) == {"full"}


def test_only_a_cluster_looks_for_a_new_timeline() -> None:
    assert "failover" not in pgbackrest.pgbackrest_calendars(["Sun"], "01:00", 6)
    assert pgbackrest.pgbackrest_calendars(["Sun"], "01:00", 6, True)["failover"] == "*-*-* *:00/10:00"


def member(name: str, members: tuple[str, ...], *roles: str) -> Host:
    inputs = {"patroni_members": dict.fromkeys(members)} if members else {}
    return Host(name, frozenset({"pgbackrest", "postgresql", *roles}), inputs=inputs)


@pytest.mark.parametrize(
    ("named", "members", "sentence"),
    [
        (["db1"], (), None),
        (["db1", "db2", "db3"], ("db1", "db2", "db3"), None),
        (
            ["db1", "db2"],
            ("db1", "db2", "db3"),
            "lacks db3, but names db1 and db2 of the same cluster: nothing would be archived",
        ),
        (["db3"], ("db1", "db2", "db3"), "lacks db1 and db2, but names db3 of the same cluster"),
        (["db1", "db2"], (), "names db1 and db2, but patroni is not on db1 and db2: a repository host backs up one server"),
    ],
)
def test_a_repository_backs_up_one_server_or_every_member_of_a_cluster(
    named: list[str], members: tuple[str, ...], sentence: str | None
) -> None:
    databases = [member(name, members, *(["patroni"] if members else [])) for name in ("db1", "db2", "db3")]
    hosts = [*databases, repository({}, pgbackrest_database_hosts=named)]
    problems = list(partial_clusters(Fleet({host.name: host for host in hosts}, {})))
    assert (problems == []) if sentence is None else (len(problems) == 1 and sentence in problems[0])


def test_sound_inputs_are_not_refused() -> None:
    assert pgbackrest.pgbackrest_problems(INPUTS) == []
    client = INPUTS | {"repository_hosts": ["backup1"], "database_hosts": [], "repo_cipher_pass": ""}
    assert pgbackrest.pgbackrest_problems(client) == []
    assert pgbackrest.pgbackrest_problems(INPUTS | {"repository_hosts": "backup1", "incremental_hours": "six"}) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"repository_hosts": ["backup1"]}, "but a host is either a database or a repository"),
        ({"database_hosts": []}, "are both empty, so nothing would be backed up"),
        (
            {"repository_hosts": ["backup1", "backup2"], "database_hosts": []},
            "pgbackrest_repository_hosts has 2 hosts (backup1, backup2), but takes one",
        ),
        ({"stanza": "Main"}, "pgbackrest_stanza is 'Main', but may hold small letters"),
        ({"full_weekdays": ["Sunday"]}, "names 'Sunday', which is not one of Mon, Tue"),
        ({"full_weekdays": []}, "is empty, but every other backup needs a full one"),
        ({"backup_time": "24:00"}, "is '24:00', which is not a time from 00:00 to 23:59"),
        ({"drill_weekdays": ["Mittwoch"]}, "pgbackrest_drill_weekdays names 'Mittwoch', which is not one of Mon, Tue"),
        ({"drill_time": 14400}, "pgbackrest_drill_time is '14400', which is not a time from 00:00 to 23:59"),
        ({"incremental_hours": 5}, "is 5, which does not divide a day"),
        ({"repo_cipher_pass": ""}, "pgbackrest_repo_cipher_pass is empty"),
    ],
)
def test_a_wrong_input_is_refused_by_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    (problem,) = pgbackrest.pgbackrest_problems(INPUTS | changes)
    assert sentence in problem and problem.endswith(".")


def test_a_repository_holds_its_retention_and_one_more_interval() -> None:
    parts = dict(pgbackrest.repository_parts(repository(MEASURED)) or [])
    assert parts == {
        "4 full backups": 4000 * MIB,
        "18 differential backups": 1800 * MIB,
        "84 incremental backups": 840 * MIB,
        "WAL of 21 days": 1050 * MIB,
        "a restore drill": 4000 * MIB,
    }


def test_daily_full_backups_take_more_and_no_differential_ones() -> None:
    host = repository(MEASURED, pgbackrest_full_weekdays=list(pgbackrest.WEEKDAYS), pgbackrest_incremental_hours=0)
    assert [what for what, _ in pgbackrest.repository_parts(host) or []] == [
        "16 full backups",
        "0 differential backups",
        "0 incremental backups",
        "WAL of 15 days",
        "a restore drill",
    ]


@pytest.mark.parametrize("measured", [{}, MEASURED | {"full_bytes": 0}])
def test_nothing_is_planned_before_the_first_backup(measured: dict[str, Any]) -> None:
    assert pgbackrest.repository_parts(repository(measured)) is None
    assert list(disk_lines(Fleet({"backup1": repository(measured)}, {}))) == []


def test_a_repository_that_outgrows_its_disk_is_named_with_both_sizes() -> None:
    (line,) = disk_lines(Fleet({"backup1": repository(MEASURED)}, {}))
    assert (line.used, line.limit, line.left) == (11690 * MIB, 20000 * MIB, 8310 * MIB)
    (small,) = disk_lines(Fleet({"backup1": repository(MEASURED | {"disk_bytes": 10000 * MIB})}, {}))
    assert (
        small.left < 0 and "will take 11690 MiB at the measured sizes, but the repository's disk has 10000 MiB" in small.refusal
    )


FILES = {
    "repositories": {"web1": {"first_bytes": 1000 * MIB, "bytes_per_day": 10 * MIB, "period_days": 31}},
    "held_bytes": 500 * MIB,
    "disk_bytes": 9000 * MIB,
}


@pytest.mark.parametrize(("device", "limits"), [(1, [20500 * MIB]), (2, [20000 * MIB, 9000 * MIB])], ids=["shared", "apart"])
def test_repositories_of_one_disk_are_counted_together(device: int, limits: list[int]) -> None:
    host = repository(MEASURED | {"device": 1}, restic_retention_days=30)
    host.measured["file_backups"] = FILES | {"device": device}
    lines = list(disk_lines(Fleet({"backup1": replace(host, roles=frozenset({"pgbackrest", "restic"}))}, {})))
    assert [line.limit for line in lines] == limits
    assert sum(line.used for line in lines) == 11690 * MIB + 3 * (1000 + 31 * 10) * MIB
    assert "14 days (pgbackrest_repo_retention_full) and 30 days (restic_retention_days)" in lines[0].refusal


def test_a_drill_counts_in_the_memory_of_a_repository_host_only() -> None:
    both = [pgbackrest.memory_parts(repository({}, pgbackrest_database_hosts=names)) or [] for names in (["db1"], [])]
    assert [[what for what, _ in parts] for parts in both] == [
        ["pgBackRest with 2 processes", "restore drill"],
        ["pgBackRest with 2 processes"],
    ]
    assert pgbackrest.memory_parts(Host("db1")) is None
