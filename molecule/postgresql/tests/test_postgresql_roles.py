"""Roles, databases and the verifiers that PgBouncer may read."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://postgresql"]


def test_access_rules_name_only_the_declared_databases(ask, inputs):
    names = ask("SELECT DISTINCT d FROM pg_hba_file_rules, unnest(database) d WHERE type = 'hostssl' ORDER BY d")
    assert names == sorted(database["name"] for database in inputs["postgresql_databases"])


def test_an_undeclared_role_cannot_log_in(ask, inputs):
    may = ask("SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper ORDER BY 1")
    silent = {role["name"] for role in inputs["postgresql_roles"] if not role.get("login", True)}
    declared = {inputs["postgresql_auth_query_role"], *(role["name"] for role in inputs["postgresql_roles"])}
    assert may == sorted(declared - silent)


@pytest.mark.once
def test_passwords_are_scram_verifiers_only(ask):
    assert ask("SELECT rolname FROM pg_authid WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%'") == []


def test_declared_roles_can_log_in_and_have_no_special_attributes(ask, inputs):
    for role in inputs["postgresql_roles"]:
        special = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
        answer = ask(f"SELECT rolcanlogin, ({special}), rolconnlimit FROM pg_roles WHERE rolname = '{role['name']}'")
        assert answer == [f"{'t' if role.get('login', True) else 'f'}|f|{role.get('connection_limit', -1)}"]


def second_logins(inputs):
    return [
        role for role in inputs["postgresql_roles"] if role.get("acts_as") not in (None, inputs["postgresql_auth_query_role"])
    ]


@pytest.mark.disruptive
def test_objects_of_a_second_login_belong_to_the_application(ask, log_in, inputs):
    if "127.0.0.1" not in inputs["postgresql_client_addresses"]:
        pytest.skip("this server has no client on its host")
    for role in second_logins(inputs):
        owner = role["acts_as"]
        result = log_in(role["name"], owner, "CREATE TABLE public.of_the_second (); SELECT current_user, session_user")
        try:
            assert result.stdout.splitlines() == [f"{owner}|{role['name']}"], result.stderr
            owned = "SELECT tableowner FROM pg_tables WHERE tablename = 'of_the_second'"
            assert ask(owned, database=owner) == [owner]
        finally:
            ask("DROP TABLE IF EXISTS public.of_the_second", database=owner)


def test_a_second_login_reaches_only_the_application_s_database(ask, inputs):
    for role in second_logins(inputs):
        for database in inputs["postgresql_databases"]:
            (may,) = ask(f"SELECT has_database_privilege('{role['name']}', '{database['name']}', 'CONNECT')")
            assert may == ("t" if database["owner"] == role["acts_as"] else "f"), database["name"]


def test_a_database_belongs_to_its_owner_and_admits_only_declared_roles(ask, inputs):
    names = ", ".join(f"'{role['name']}'" for role in inputs["postgresql_roles"])
    for database in inputs["postgresql_databases"]:
        name, owner = database["name"], database["owner"]
        assert ask(f"SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{name}'") == [owner]
        may = ask(
            f"SELECT rolname FROM pg_roles WHERE rolname IN ({names}) "
            f"AND has_database_privilege(rolname, '{name}', 'CONNECT') ORDER BY 1"
        )
        admitted = {owner, *database.get("roles", [])}
        second = {role["name"] for role in inputs["postgresql_roles"] if role.get("acts_as") in admitted}
        assert may == sorted(admitted | second)


@pytest.mark.disruptive
@pytest.mark.once
@pytest.mark.parametrize(
    ("attributes", "visible"),
    [
        ("LOGIN", 1),
        ("LOGIN VALID UNTIL '2999-01-01'", 1),
        ("LOGIN VALID UNTIL '2000-01-01'", 0),
        ("NOLOGIN", 0),
        ("LOGIN SUPERUSER", 0),
        ("LOGIN REPLICATION", 0),
        ("LOGIN BYPASSRLS", 0),
    ],
)
def test_pgbouncer_gets_verifiers_only_of_roles_that_can_log_in_today(ask, inputs, attributes, visible):
    for database in inputs["postgresql_databases"]:
        name = database["name"]
        # Rolled back, so no visitor is left.
        answer = ask(
            f"BEGIN; CREATE ROLE visitor PASSWORD 'visitor-password' {attributes}; "
            f"GRANT CONNECT ON DATABASE {name} TO visitor; SELECT count(*) FROM pgbouncer.get_auth('visitor'); ROLLBACK;",
            database=name,
        )
        assert answer == [str(visible)], f"in database {name}"


@pytest.mark.disruptive
@pytest.mark.once
def test_pgbouncer_gets_no_verifier_of_a_role_of_another_database(ask, inputs):
    for database in inputs["postgresql_databases"]:
        answer = ask(
            "BEGIN; CREATE ROLE visitor LOGIN PASSWORD 'visitor-password'; "
            "SELECT count(*) FROM pgbouncer.get_auth('visitor'); ROLLBACK;",
            database=database["name"],
        )
        assert answer == ["0"]


def test_an_application_cannot_read_verifiers(ask, inputs):
    for database in inputs["postgresql_databases"]:
        name, owner = database["name"], database["owner"]
        error = ask(f"SET ROLE {owner}; SELECT * FROM pgbouncer.get_auth('{owner}')", database=name, expect_error=True)
        assert any("permission denied" in line for line in error), error
        error = ask(f"SET ROLE {owner}; SELECT rolpassword FROM pg_authid", database=name, expect_error=True)
        assert any("permission denied" in line for line in error), error


@pytest.mark.once
def test_pgbouncer_s_function_ignores_the_search_path(ask, inputs):
    for database in inputs["postgresql_databases"]:
        answer = ask(
            "SELECT prosecdef, proconfig, pg_get_userbyid(proowner) FROM pg_proc "
            "WHERE oid = 'pgbouncer.get_auth(text)'::regprocedure",
            database=database["name"],
        )
        assert answer == ['t|{"search_path=pg_catalog, pg_temp"}|postgres']


@pytest.mark.once
def test_no_verifier_is_in_the_log(host):
    result = host.run(r"grep -rlE 'SCRAM-SHA-256\$[0-9]' /var/log/postgresql/")
    assert result.rc == 1, result.stdout + result.stderr
