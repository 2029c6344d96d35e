"""What a copy of a restored database refuses, without a host."""

from __future__ import annotations

import doctest
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import database_copy, psql, restore_moment, wal_archive

GIB = 2**30
PARAMS = {"database": "news", "table": "", "name": "news_before", "path": "/var/lib/postgresql/x"}
STATE = {"standby": False, "major": 17, "databases": {"postgres": 1, "news": GIB}, "roles": ["postgres", "news"]}
BACKUP = {"label": "20261129-010000F", "info": {"size": 2 * GIB}}


def test_the_examples_hold() -> None:
    assert doctest.testmod(database_copy).attempted and doctest.testmod(database_copy).failed == 0


@pytest.mark.parametrize(
    ("params", "state", "free", "sentence"),
    [
        ({}, {}, 9 * GIB, None),
        ({}, {"standby": True}, 9 * GIB, "restore_database names a standby"),
        (
            {"database": "old"},
            {},
            9 * GIB,
            "restore_copy is 'old', but the backup 20261129-010000F before that moment holds news",
        ),
        ({"name": "news"}, {}, 9 * GIB, "the server has a database of this name, which is not touched"),
        ({"name": ""}, {}, 9 * GIB, "restore_as is '', but a new name has small letters"),
        ({"name": "pg_news"}, {}, 9 * GIB, "restore_as is 'pg_news'"),
        ({"name": 'x" OWNER "postgres'}, {}, 9 * GIB, "small letters, digits and '_' only"),
        ({}, {}, 4 * GIB, "take up to 5.00 GiB, but the disk of /var/lib/postgresql/x has 4.00 GiB free"),
    ],
)
def test_what_cannot_be_copied_is_refused_before_anything_is_restored(
    params: dict[str, Any], state: dict[str, Any], free: int, sentence: str | None
) -> None:
    found = list(database_copy.refusals(PARAMS | params, STATE | state, ["news", "postgres"], BACKUP, free))
    assert found == [] if sentence is None else sentence in " ".join(found)


class Source:
    """A restored server that knows its tables."""

    def ask(self, _: str) -> str:
        return "\n" + json.dumps({"owner": "news", "tables": {"public.articles": "r", "public.recent": "v"}})


class Live:
    def __init__(self, roles: list[str]) -> None:
        self.roles = roles

    def ask(self, _: str) -> str:
        return json.dumps(STATE | {"roles": self.roles})


@pytest.mark.parametrize(
    ("table", "roles", "sentence"),
    [
        ("", ["news"], None),
        ("public.articles", ["news"], None),
        (
            "articles",
            ["news"],
            "restore_table is 'articles', but at that moment news had public.articles: name one with its schema",
        ),
        ("public.recent", ["news"], "which is not an ordinary table"),
        ("", ["shop"], "belonged to the role news, with whose rights the copy would be loaded, but that role is missing"),
    ],
)
def test_what_only_the_restored_database_knows_is_refused_before_the_live_one_changes(
    table: str, roles: list[str], sentence: str | None
) -> None:
    copy = database_copy.DatabaseCopy(PARAMS | {"table": table}, Source(), Live(roles))  # type: ignore[arg-type]
    if sentence is None:
        copy.refuse()
        assert copy.owner == "news"
    else:
        with pytest.raises(database_copy.CopyError, match=r"^(restore_table is|the restored database)") as error:
            copy.refuse()
        assert sentence in str(error.value)


def test_a_moment_is_restored_from_the_last_backup_that_ended_before_it() -> None:
    ends = [datetime(2026, 11, 29, hour, tzinfo=UTC) for hour in (8, 10)]
    held = [{"label": f"{end:%H}", "timestamp": {"stop": int(end.timestamp())}} for end in ends]
    assert restore_moment.backup_for("latest", held)["label"] == "10"
    assert restore_moment.backup_for("2026-11-29 09:00:00+00", held)["label"] == "08"
    assert restore_moment.backup_for("2026-11-29 12:00:00+01:00", held)["label"] == "10"


class Archiving:
    """A server whose archive has what is named."""

    def __init__(self, newest: str | None) -> None:
        self.newest = newest

    def ask(self, sql: str) -> str:
        if "pg_switch_wal" in sql:
            return "000000010000000000000005\n\n"
        return json.dumps({"newest_wal": self.newest})


def test_a_repository_without_the_last_wal_is_named() -> None:
    wal_archive.archive_now(Archiving("000000010000000000000005"), 0)  # type: ignore[arg-type]
    with pytest.raises(psql.PsqlError, match="the repository has no WAL of now after 0 s"):
        wal_archive.archive_now(Archiving(None), 0)  # type: ignore[arg-type]
