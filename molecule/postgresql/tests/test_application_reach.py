"""An intruder in an application owns its database, and reaches nothing beyond it. Review finding 2.

The attempts log in as the application's programs do. Each has a control to show that it would work: as the superuser, or in a
careless session of the superuser, whose settings the application's database chooses.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

import pytest
from superuser import PSQL

testinfra_hosts = ["ansible://postgresql"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

ME, OTHER = "news", "shop"
GET_AUTH = "pgbouncer.get_auth(p_usename text) RETURNS TABLE (usename text, passwd text)"

# Requests that the server must refuse to the application.
ATTEMPTS = {
    "act as the superuser": "SET ROLE postgres",
    "be the superuser from now on": "SET SESSION AUTHORIZATION postgres",
    "act as PgBouncer's role": "SET ROLE pgbouncer",
    "act as another application": f"SET ROLE {OTHER}",
    "give itself the attribute": f"ALTER ROLE {ME} SUPERUSER",
    "join the superuser": f"GRANT postgres TO {ME}",
    "join the role that runs programs": f"GRANT pg_execute_server_program TO {ME}",
    "know another application's password": f"ALTER ROLE {OTHER} PASSWORD 'known'",
    "choose the superuser's settings": "ALTER ROLE postgres SET search_path = public",
    "choose another application's settings": f"ALTER DATABASE {OTHER} SET search_path = public",
    "load a library into every session": f"ALTER DATABASE {ME} SET session_preload_libraries = 'auto_explain'",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'",
    "read a file of the server": "SELECT pg_read_file('postgresql.auto.conf')",
    "read the verifiers": "SELECT rolpassword FROM pg_authid",
    "have PgBouncer's function read them": f"SELECT * FROM pgbouncer.get_auth('{OTHER}')",
    "replace PgBouncer's function": f"CREATE OR REPLACE FUNCTION {GET_AUTH} LANGUAGE sql AS 'SELECT NULL, NULL'",
    "add to PgBouncer's schema": "CREATE TABLE pgbouncer.mine ()",
    "drop PgBouncer's schema": "DROP SCHEMA pgbouncer CASCADE",
    "dial from the server": "CREATE EXTENSION dblink SCHEMA public",
    "follow every command": "CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION public.on_event()",
}

# Code of the application that a careless session of the superuser runs: each trap, and the query that runs into it.
SEIZE = f"""
CREATE TABLE public.reached (way text);
CREATE FUNCTION public.seize(way text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN
    INSERT INTO public.reached VALUES (way);
    EXECUTE 'ALTER ROLE {ME} SUPERUSER';
  END IF;
  RETURN false; END $$;
CREATE FUNCTION public.on_event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
"""
OWN_PATH = f"ALTER DATABASE {ME} SET search_path = public, pg_catalog;"
TRAPS = {
    "operator": (
        "CREATE FUNCTION public.same(oid, integer) RETURNS boolean LANGUAGE sql AS $$SELECT public.seize('operator')$$;"
        "CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = integer, FUNCTION = public.same);",
        "SELECT CASE x.grantee WHEN 0 THEN 1 END FROM pg_namespace n, aclexplode(n.nspacl) x LIMIT 1",
    ),
    "overload": (
        "CREATE FUNCTION public.acldefault(text, oid) RETURNS aclitem[] LANGUAGE sql AS "
        "$$SELECT NULL::aclitem[] WHERE public.seize('overload')$$;",
        "SELECT acldefault('f', nspowner) FROM pg_namespace LIMIT 1",
    ),
    "function": (
        OWN_PATH + "CREATE FUNCTION public.pg_get_userbyid(oid) RETURNS name LANGUAGE sql AS "
        "$$SELECT CASE WHEN public.seize('function') THEN 'a' ELSE 'b' END::name$$;",
        "SELECT pg_get_userbyid(nspowner) FROM pg_namespace LIMIT 1",
    ),
    "view": (
        OWN_PATH + "CREATE VIEW public.pg_namespace AS SELECT n.* FROM pg_catalog.pg_namespace n "
        "WHERE public.seize('view') IS NOT NULL;",
        "SELECT nspowner FROM pg_namespace WHERE nspname = 'pgbouncer'",
    ),
    "type": (
        OWN_PATH + "CREATE DOMAIN public.oid AS pg_catalog.int8 CHECK (public.seize('type') IS NOT NULL);",
        "SELECT 0::oid",
    ),
}
UNTRAP = f"""
ALTER DATABASE {ME} RESET ALL;
DROP DOMAIN IF EXISTS public.oid;
DROP VIEW IF EXISTS public.pg_namespace;
DROP FUNCTION IF EXISTS public.pg_get_userbyid(pg_catalog.oid), public.acldefault(text, pg_catalog.oid);
DROP OPERATOR IF EXISTS public.= (pg_catalog.oid, integer);
DROP FUNCTION IF EXISTS public.same(pg_catalog.oid, integer);
"""

# Settings of the application's database that would make every run fail.
OBSTACLES = {
    "no time": "SET statement_timeout = 1",
    "nothing to be written": "SET default_transaction_read_only = on",
    "another role": f"SET role = '{ME}'",
    "a library that does not exist": "SET local_preload_libraries = 'nonexistent'",
    "no time for a transaction": "SET transaction_timeout = 1",
}
WORK = "BEGIN; CREATE SCHEMA control; SELECT count(rolpassword) FROM pg_catalog.pg_authid, pg_catalog.pg_sleep(0.05); ROLLBACK"


@pytest.fixture(scope="module")
def application(log_in) -> Callable:
    """psql as the application's programs log in: over the network, with a password and a certificate of the fleet."""
    return lambda sql, database=ME, user=ME: log_in(user, database, sql)


@pytest.fixture(scope="module")
def superuser(host) -> Callable:
    """psql as the superuser. careless: with the settings of the database."""

    def run(sql: str, database: str = ME, careless: bool = False):
        psql = "runuser -u postgres -- psql -XqAtw -v ON_ERROR_STOP=1" if careless else PSQL
        return host.run(f"printf %s {shlex.quote(sql)} | {psql} -d {database} -f -")

    return run


@pytest.fixture
def clean(superuser) -> Iterator[None]:
    """Restores the application's database."""
    yield
    reopen(superuser)
    drop = "DROP TABLE IF EXISTS public.reached; DROP FUNCTION IF EXISTS public.on_event(); "
    result = superuser(f"{UNTRAP} DROP FUNCTION IF EXISTS public.seize(text); {drop} ALTER ROLE {ME} NOSUPERUSER")
    assert result.rc == 0, result.stderr


def reopen(superuser) -> None:
    """From another database, because its settings may keep everyone out."""
    result = superuser(f"ALTER DATABASE {ME} IS_TEMPLATE false; ALTER DATABASE {ME} RESET ALL", "postgres")
    assert result.rc == 0, result.stderr


def execute(application, sql: str, **login: str) -> None:
    result = application(sql, **login)
    assert result.rc == 0, f"{sql}\n{result.stderr}"


def test_an_application_cannot_exceed_its_privileges(application, superuser, clean):
    execute(application, SEIZE)
    for aim, sql in ATTEMPTS.items():
        control = superuser(f"BEGIN; {sql}; ROLLBACK")
        assert control.rc == 0, f"the superuser cannot {aim} either: {control.stderr}"
        result = application(sql)
        assert result.rc, f"the application could {aim}: {result.stdout}"
        refused = ("permission denied", "must be", "only", "admin option")
        assert any(words in result.stderr for words in refused), f"{aim}: {result.stderr}"


def test_an_application_enters_only_its_database(application, superuser):
    execute(application, "SELECT 1", database=OTHER, user=OTHER)
    for database in (OTHER, "postgres", "template1"):
        result = application("SELECT 1", database=database)
        assert result.rc and ("no pg_hba.conf entry" in result.stderr or "permission denied" in result.stderr), result.stderr


def test_a_run_executes_no_code_that_an_application_planted(converge, application, superuser, clean):
    """First each trap and obstacle alone, to see that it works; then all at once."""

    def assert_run(*arguments: str) -> None:
        run = converge("playbooks/postgresql.yml", *arguments)
        superusers = superuser("SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper", "postgres").stdout.split()
        assert superusers == ["postgres"], f"after a run {arguments} these are superusers: {superusers}"
        assert run.returncode == 0, run.output

    execute(application, SEIZE)
    raised = f"SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) '{ME}'"
    for way, (trap, query) in TRAPS.items():
        execute(application, trap)
        control = superuser(f"BEGIN; {query}; {raised}; ROLLBACK", careless=True)
        assert control.rc == 0 and control.stdout.splitlines()[-1] == "t", f"{way}: {control.stdout}{control.stderr}"
        execute(application, UNTRAP)
    version = int(superuser("SHOW server_version_num").stdout) // 10000
    obstacles = {name: sql for name, sql in OBSTACLES.items() if version >= 17 or "transaction_timeout" not in sql}
    for obstacle, setting in obstacles.items():
        execute(application, f"ALTER DATABASE {ME} {setting}")
        assert superuser(WORK, careless=True).rc, f"{obstacle} stops nobody"
        reopen(superuser)

    execute(application, "\n".join(trap for trap, _ in TRAPS.values()))
    assert_run("--check")
    # Now the run also has something to write in this database.
    assert superuser("DROP FUNCTION pgbouncer.get_auth(text)").rc == 0
    execute(application, "".join(f"ALTER DATABASE {ME} {setting};" for setting in [*obstacles.values(), "IS_TEMPLATE true"]))
    assert_run()
    reopen(superuser)
    assert superuser("SELECT way FROM public.reached").stdout == ""
    answer = superuser(f"SELECT usename FROM pgbouncer.get_auth('{ME}')")
    assert answer.stdout.split() == [ME], answer.stderr
