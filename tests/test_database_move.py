"""What a move to another major version of PostgreSQL refuses, and what is left after one that failed, without a host."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.grunnfjell.platform.plugins.module_utils import database_move as move
from ansible_collections.grunnfjell.platform.plugins.modules import pgbackrest_rehearse_move, pgbackrest_stanza, postgresql_move

from lab.drill.faults import moved_database
from lab.machine import REPOSITORY, Refusal
from tests.module_calls import call

GIB = 2**30
VERSIONS = move.Versions("15", "17")
STATE: dict[str, Any] = {
    "standby": False, "checksums": True, "standbys": [], "slots": [], "prepared": [], "tablespaces": [], "bytes": GIB,
}  # fmt: skip


def test_the_examples_hold() -> None:
    assert doctest.testmod(move).attempted and doctest.testmod(move).failed == 0


@pytest.mark.parametrize(
    ("state", "free", "sentence"),
    [
        ({}, 4 * GIB, None),
        ({}, 3 * GIB, None),
        ({}, 3 * GIB - 1, "two copies of 1.00 GiB of databases, for which 3.00 GiB must be free"),
        ({"standby": True}, 4 * GIB, "is a standby"),
        ({"standbys": ["10.0.0.5"]}, 4 * GIB, "It is replicated (10.0.0.5)"),
        ({"slots": ["cdc"]}, 4 * GIB, "It is replicated (the slot cdc)"),
        ({"prepared": ["order-7"]}, 4 * GIB, "prepared transactions (order-7)"),
        ({"tablespaces": ["fast"]}, 4 * GIB, "tablespaces (fast)"),
        (
            {"checksums": False},
            4 * GIB,
            "pg_checksums --enable -D /var/lib/postgresql/15/main; systemctl start",
        ),
    ],
)
def test_what_a_move_would_lose_or_cannot_do_is_refused(state: dict[str, Any], free: int, sentence: str | None) -> None:
    found = list(move.refusals(STATE | state, VERSIONS, free))
    assert found == [] if sentence is None else (len(found) == 1 and sentence in found[0])


Cluster = Callable[..., None]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Creates the files of a cluster, where the code looks for them."""
    monkeypatch.setattr(move, "DATA", tmp_path / "lib")
    monkeypatch.setattr(move, "ETC", tmp_path / "etc")

    def create(version: str, start: str = "auto", *databases: str) -> None:
        base = tmp_path / "lib" / version / "main/base"
        for name in ("1", "4", "5", "pgsql_tmp", *databases):
            (base / name).mkdir(parents=True)
        (base.parent / "PG_VERSION").write_text(f"{version}\n")
        (tmp_path / "etc" / version / "main").mkdir(parents=True)
        (tmp_path / "etc" / version / "main/start.conf").write_text(f"# Automatic startup\n\n{start}\n")

    return create


@pytest.mark.parametrize(
    ("clusters", "stage", "forward", "back"),
    [
        ((), "nothing", "There is no cluster of PostgreSQL 15", "There is no cluster of PostgreSQL 15"),
        ((("17", "auto", "16384"),), "nothing", "There is no cluster of PostgreSQL 15", "There is no cluster of PostgreSQL 15"),
        ((("15", "auto", "16384"),), "old", None, "there is nothing to go back to"),
        ((("15", "auto", "16384"), ("17", "auto")), "old", None, "there is nothing to go back to"),
        (
            (("15", "auto", "16384"), ("17", "auto", "16384")),
            "half",
            "pg_dropcluster --stop 17 main",
            "pg_dropcluster --stop 17 main",
        ),
        ((("15", "manual", "16384"), ("17", "auto", "16384")), "moved", None, None),
        ((("15", "manual"), ("17", "auto")), "moved", None, None),
    ],
)
def test_a_host_that_is_not_where_a_move_begins_is_refused(
    cluster: Cluster, clusters: Any, stage: str, forward: str | None, back: str | None
) -> None:
    for arguments in clusters:
        cluster(*arguments)
    assert move.stage(VERSIONS) == stage
    for wanted, sentence in (("old", forward), ("moved", back)):
        found = list(move.misplaced(stage, wanted, VERSIONS))
        assert found == [] if sentence is None else (len(found) == 1 and sentence in found[0])


def test_a_debian_that_the_kit_does_not_know_has_nothing_to_move(cluster: Cluster) -> None:
    cluster("15")
    assert move.stage(move.Versions("", "15")) == "nothing"


def test_only_an_unused_cluster_is_dropped(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(move, "run", lambda *command: commands.append(command))
    cluster("17")
    move.drop_unused(VERSIONS)
    assert commands == [("pg_dropcluster", "--stop", "17", "main")]
    (move.DATA / "17/main/base/16384").mkdir()
    move.drop_unused(VERSIONS)
    assert len(commands) == 1


@pytest.mark.parametrize("left", [False, True], ids=["its-tool-cleaned-up", "the-new-cluster-is-left"])
@pytest.mark.parametrize("failing", ["upgrade", "reindex"])
def test_a_move_that_fails_ends_with_the_old_server_in_service(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, failing: str, left: bool
) -> None:
    happened: list[Any] = []

    def fail(*_: Any) -> None:
        if left:
            cluster("17", "auto", "16384")
        raise move.MoveError("a library is missing")

    monkeypatch.setattr(move, "run", lambda *command: happened.append(command))
    monkeypatch.setattr(move, "upgrade", lambda *_: happened.append("upgrade"))
    monkeypatch.setattr(move, "port_of", lambda _: 5432)
    monkeypatch.setattr(move, failing, fail)
    monkeypatch.setattr(postgresql_move, "in_service", lambda _: happened.append("old server"))
    cluster("15", "manual", "16384")
    with pytest.raises(move.MoveError, match=r"a library is missing\. PostgreSQL 15 is in service with its data"):
        postgresql_move.forward(VERSIONS)
    assert happened[-1] == "old server"
    assert (("pg_dropcluster", "--stop", "17", "main") in happened) == left


def test_the_way_back_keeps_what_was_written_since(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed: list[str] = []

    def run(*command: str) -> None:
        assert command[:3] == ("pg_renamecluster", "17", "main")
        renamed.append(command[3])
        for home in (move.DATA, move.ETC):
            (home / "17/main").rename(home / "17" / command[3])

    monkeypatch.setattr(move, "run", run)
    monkeypatch.setattr(postgresql_move.subprocess, "run", lambda *_, **__: None)
    monkeypatch.setattr(postgresql_move, "in_service", lambda _: None)
    cluster("15", "manual", "16384")
    cluster("17", "auto", "16384")
    kept = postgresql_move.back(VERSIONS)["kept"]
    assert kept == str(move.DATA / "17" / renamed[0]) and (Path(kept) / "base/16384").is_dir()
    # Debian starts no cluster with this word at boot.
    assert move.start_mode(move.ETC / "17" / renamed[0]) == "manual"


def test_a_server_that_was_moved_is_left_alone(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_move, "forward", lambda _: pytest.fail("moved again"))
    monkeypatch.setattr(pgbackrest_rehearse_move, "rehearse", lambda *_: pytest.fail("rehearsed again"))
    cluster("15", "manual", "16384")
    cluster("17", "auto", "16384")
    answer = call(postgresql_move, old="15", new="17")
    assert not answer["failed"] and not answer["changed"] and answer["moved"] == {}
    rehearsal = {"stanza": "main", "port": 5432, "path": "/x", "sockets": "/y"}
    assert call(pgbackrest_rehearse_move, old="15", new="17", **rehearsal)["rehearsal"] == {}


def test_a_server_that_does_not_run_is_refused(cluster: Cluster) -> None:
    cluster("15", "auto", "16384")
    answer = call(postgresql_move, old="15", new="17")
    assert answer["failed"] and "does not run. Start it first" in answer["msg"]


def test_each_database_is_looked_at_for_indexes_in_another_order() -> None:
    class Both:
        script = ""

        def ask(self, sql: str, _: float = 0) -> str:
            if sql == move.DATABASES_SQL:
                return '["news", "sh\\"op"]'
            self.script = sql
            return "reindexed 2\nreindexed 1\n"

    server = Both()
    assert move.reindex(server) == 3  # type: ignore[arg-type]
    assert '\\connect "news"' in server.script and '\\connect "sh""op"' in server.script
    assert server.script.count("REINDEX INDEX") == 2


@pytest.mark.parametrize(("upgrade", "wanted"), [(True, ["stanza-upgrade", "check"]), (False, ["check"])])
def test_a_stanza_takes_another_version_only_if_it_was_asked_to(
    monkeypatch: pytest.MonkeyPatch, upgrade: bool, wanted: list[str]
) -> None:
    done: list[str] = []
    held = {"status": {"code": 0}, "db": [{"version": "15"}], "backup": [{"error": False}]}
    now = held | {"db": [{"version": "15"}, {"version": "17"}]}
    monkeypatch.setattr(pgbackrest_stanza.pgbackrest, "info", lambda *_: now if "stanza-upgrade" in done else held)
    monkeypatch.setattr(pgbackrest_stanza.pgbackrest, "run", lambda *command, **_: done.append(command[-1]))
    answer = call(pgbackrest_stanza, stanza="main", upgrade=upgrade)
    assert done == wanted and answer["did"] == (["upgrade"] if upgrade else [])


def test_the_way_out_is_not_blocked_by_the_refusal_that_names_it() -> None:
    (task,) = yaml.safe_load((REPOSITORY / "roles/postgresql/tasks/preflight.yml").read_text(encoding="utf-8"))
    assert task["when"] == "move_database | default('') != inventory_hostname"


def test_the_drill_reads_the_seconds_that_the_playbook_prints() -> None:
    output = "restored in 5.5 s, became PostgreSQL 17 in 21.4 s, with 0 indexes built again. ok: msg: reindexed: 2 seconds: 11.1"
    assert moved_database.figures(output) == {"restore_s": 5.5, "rehearsed_s": 21.4, "reindexed": 2.0, "moved_s": 11.1}
    with pytest.raises(Refusal, match="reported no seconds"):
        moved_database.figures("nothing")
