"""One database or one table out of a backup, beside the live one."""

from __future__ import annotations

import shlex

import pytest
from backup_client import wait_archived
from playbook_runner import play
from superuser import PSQL

testinfra_hosts = ["ansible://pgbackrest"]
database_only = pytest.mark.only_on(lambda variables: bool(variables.get("pgbackrest_repository_hosts")))
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once, database_only]

COPY = "news_before"
# As a person would, with the usual search_path.
PLAIN_PSQL = "runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1"
HOME, SOCKETS = "/var/lib/postgresql/grunnfjell-beside", "/run/grunnfjell-pgbackrest/beside"


@pytest.fixture
def ask(host):
    """SQL in a database of the live server. The application owns its table, with a key, a sequence and a function of its own."""

    def run(statement: str, database: str = "news") -> str:
        return host.check_output(f"{PLAIN_PSQL} -d {database} -c {shlex.quote(statement)}")

    def drop() -> None:
        run(f"DROP DATABASE IF EXISTS {COPY} WITH (FORCE)", "postgres")
        run("DROP TABLE IF EXISTS archive; DROP TABLE IF EXISTS articles; DROP FUNCTION IF EXISTS sound(text)")

    drop()
    run(
        "SET ROLE news; CREATE TABLE articles (number serial PRIMARY KEY, body text); "
        "CREATE FUNCTION sound(text) RETURNS boolean LANGUAGE sql AS 'SELECT length($1) = 32'; "
        "CREATE TABLE archive (number int REFERENCES articles, body text CHECK (public.sound(body)));"
        "INSERT INTO articles (body) SELECT md5(number::text) FROM generate_series(1, 5000) AS number; "
        "INSERT INTO archive SELECT * FROM articles WHERE number <= 10"
    )
    yield run
    drop()


@pytest.fixture
def restore(inventory, pair, hostname):
    def run(**variables: str):
        everything = {"restore_database": hostname, "restore_copy": "news", "restore_as": COPY, **variables}
        return play(inventory, "playbooks/restore_beside.yml", "--limit", pair, variables=everything)

    return run


def leftovers(host) -> list[str]:
    roles = host.check_output(f"{PSQL} -c \"SELECT rolname FROM pg_roles WHERE rolname LIKE 'grunnfjell%'\"")
    return [name for name in (HOME, SOCKETS) if host.file(name).exists] + roles.split()


def test_a_delete_is_undone_in_one_table_by_comparing_rows(host, ask, restore, first_backup):
    moment = ask("SELECT clock_timestamp()")
    ask("DELETE FROM archive; DELETE FROM articles WHERE number % 2 = 0")
    ask("INSERT INTO articles VALUES (9001, 'written later')")
    run = restore(restore_to=moment, restore_table="public.articles")
    assert run.returncode == 0, run.output
    assert ask("SELECT count(*), max(number) FROM articles", COPY) == "5000|5000"
    assert ask("SELECT tableowner FROM pg_tables WHERE schemaname = 'public'", COPY) == "news", "only this table, of its owner"
    assert ask("SELECT count(*) FROM articles") == "2501", "the live table is as it was"
    # As docs/backups.md says.
    host.check_output(
        f"{PLAIN_PSQL} -d {COPY} -c 'COPY articles TO STDOUT' | "
        f"{PLAIN_PSQL} -d news -c 'CREATE TEMP TABLE before (LIKE articles)' "
        "-c 'COPY before FROM STDIN' -c 'INSERT INTO articles SELECT * FROM before EXCEPT SELECT * FROM articles'"
    )
    assert ask("SELECT count(*), count(*) FILTER (WHERE number = 9001) FROM articles") == "5001|1"
    assert leftovers(host) == []


def test_a_whole_database_is_restored_beside_the_live_one(host, ask, restore, inventory, pair, first_backup):
    run = restore(restore_to="latest")
    assert run.returncode == 0, run.output
    assert ask("SELECT (SELECT count(*) FROM articles), (SELECT count(*) FROM archive)", COPY) == "5000|10"
    assert ask("SELECT count(*) FROM pg_constraint WHERE conrelid = 'archive'::regclass", COPY) == "2", "its key and its check"
    assert ask("SELECT has_database_privilege('pgbouncer', current_database(), 'CONNECT')", COPY) == "f"
    assert leftovers(host) == []
    # A converge leaves it where it is.
    again = play(inventory, "playbooks/postgresql.yml", "--limit", pair)
    assert again.returncode == 0 and not again.changed, again.output
    assert ask("SELECT count(*) FROM archive", COPY) == "10"


def test_code_of_the_application_does_not_get_the_superuser_s_rights(host, ask, restore, first_backup):
    """A CHECK may call any function, and pg_restore evaluates it for each row."""
    ask(
        "SET ROLE news; CREATE OR REPLACE FUNCTION sound(text) RETURNS boolean LANGUAGE plpgsql AS "
        "'BEGIN IF session_user = ''grunnfjell_restore'' THEN EXECUTE ''SET ROLE postgres''; END IF; RETURN true; END'"
    )
    wait_archived(host)
    run = restore(restore_to="latest")
    run.assert_failed("permission denied to set role", f"No database {COPY} was left.")
    assert ask(f"SELECT count(*) FROM pg_database WHERE datname = '{COPY}'", "postgres") == "0"
    assert leftovers(host) == []


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"restore_as": "news"}, "the server has a database of this name, which is not touched"),
        ({"restore_table": "public.missing"}, "restore_table is 'public.missing', but at that moment news had public.archive"),
        ({"restore_to": "2020-01-01 00:00:00+00:00", "restore_copy": "old"}, "but the oldest backup ended at"),
        ({"restore_database": "nowhere"}, "restore_database is 'nowhere', but the copy is loaded on a database"),
    ],
)
def test_what_cannot_be_restored_is_refused(host, ask, restore, variables, sentence, first_backup):
    run = restore(**{"restore_to": "latest", **variables})
    run.assert_refused("Nothing was changed.", sentence)
    assert ask("SELECT count(*) FROM articles") == "5000"
    assert leftovers(host) == []
