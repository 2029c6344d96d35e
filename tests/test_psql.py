"""How a module runs queries on PostgreSQL and PgBouncer, with a stand-in for psql. Review finding 2."""

import re
import subprocess
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import psql

REPOSITORY = Path(__file__).parents[1]


def test_a_session_of_the_superuser_uses_no_setting_of_a_database_or_of_its_caller(answer, monkeypatch):
    for name in ("PGOPTIONS", "PGHOST", "PGSERVICE", "PGPASSWORD", "HOME"):
        monkeypatch.setenv(name, "of the caller")
    calls = answer()
    psql.superuser("SELECT 1", 5432)
    (call,) = calls
    assert "of the caller" not in call["env"].values()
    assert "-c search_path=pg_catalog,pg_temp" in call["env"]["PGOPTIONS"] and "-c role=none" in call["env"]["PGOPTIONS"]
    assert (call["user"], call["extra_groups"], call["timeout"]) == ("postgres", [], 60)
    assert {"-Xqw", "ON_ERROR_STOP=1"} <= set(call["argv"]) and call["stdin"] == "SELECT 1"


def test_a_setting_is_sent_only_to_a_server_that_knows_it(answer):
    calls = answer()
    for major in (0, 15, 17):
        psql.superuser("SELECT 1", 5432, major=major)
    assert ["transaction_timeout" in call["env"]["PGOPTIONS"] for call in calls] == [False, False, True]


def test_the_rows_of_the_console_are_read_by_their_names(answer):
    calls = answer(out='database,user\nshop,"a,b"\n')
    assert psql.console("SHOW POOLS", "/run/postgresql", "6432") == [{"database": "shop", "user": "a,b"}]
    # PgBouncer refuses a login that brings options.
    assert "PGOPTIONS" not in calls[0]["env"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError(), "psql is not installed"),
        (KeyError("postgres"), "no account postgres"),
        (subprocess.TimeoutExpired("psql", 60, stderr=b"step 3\n"), "no answer within 60 s"),
    ],
)
def test_a_failure_of_psql_is_a_sentence(answer, error, says):
    answer(error=error)
    with pytest.raises(psql.PsqlError, match=says):
        psql.superuser("SELECT 1", 5432)


def test_the_kit_calls_psql_only_through_its_client():
    """A command's own argument list: in the modules, and in the tasks of roles and playbooks."""
    sources = [*REPOSITORY.glob("plugins/**/*.py"), *REPOSITORY.glob("roles/**/*.yml"), *REPOSITORY.glob("playbooks/**/*.yml")]
    by_hand = {path.name for path in sources if re.search(r"[\"']psql[\"'],|-- psql", path.read_text(encoding="utf-8"))}
    # close_pools.yml uses only the console of PgBouncer, whose settings no application can choose.
    assert by_hand == {"psql.py", "close_pools.yml"}
