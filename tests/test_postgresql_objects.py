"""Databases and roles: the plan from what a server has to what is declared."""

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import postgresql_steps, psql, scram
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import postgresql
from hypothesis import given
from hypothesis import strategies as st

PASSWORD = "a-long-enough-password"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_a_verifier_matches_its_password_and_no_other(password):
    verifier = scram.scram_verifier(password, iterations=1)
    assert password not in verifier or len(password) < 4
    assert scram.password_matches(verifier, password)
    assert not scram.password_matches(verifier, password + "x")


def test_the_verifier_is_the_one_of_rfc_7677():
    verifier = scram.scram_verifier("pencil", b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81")
    assert verifier == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


@pytest.mark.parametrize("stored", [None, "", "md5abc", "SCRAM-SHA-256$", "SCRAM-SHA-256$x:y$z"])
def test_anything_but_a_scram_verifier_matches_nothing(stored):
    assert not scram.password_matches(stored, "password")


def role(name: str, **other) -> dict:
    return {
        "name": name,
        "ordinary": True,
        "settings": ["log_min_messages=log"],
        "login": True,
        "connection_limit": -1,
        "valid_until": None,
        "verifier": scram.scram_verifier(PASSWORD, iterations=1),
        "managed": True,
        "owns_in": [],
        "granted_in": [],
        "member_of": [],
        **other,
    }


BLANK = {"roles": [], "databases": []}
PASSWORDS = dict.fromkeys(("newsroom", "newsroom_b", "pgbouncer", "pgbouncer_b"), PASSWORD)


def plan(server=BLANK, **declared) -> list[postgresql_steps.Step]:
    nothing = {"databases_removed": [], "auth_query_role": "", "passwords": PASSWORDS}
    steps = postgresql_steps.plan(server, {}, BLANK | nothing | declared)
    assert PASSWORD not in postgresql_steps.script(steps)
    return steps


def changes(server=BLANK, **declared) -> list[str]:
    return [step.says for step in plan(server, **declared)]


NEWSROOM = {"roles": [{"name": "newsroom"}], "databases": [{"name": "newsroom", "owner": "newsroom"}]}
EXISTING = {
    "roles": [role("postgres", managed=False), role("newsroom", owns_in=["newsroom"])],
    "databases": [{"name": "newsroom", "owner": "newsroom", "public": False, "connect": []}],
}


def test_a_blank_server_gets_everything_and_a_correct_one_nothing():
    assert changes(**NEWSROOM) == [
        "create role newsroom",
        "create database newsroom, owned by newsroom",
        "close database newsroom to everybody else",
    ]
    assert changes(EXISTING, **NEWSROOM) == []


def test_pgbouncers_role_connects_everywhere_and_reads_verifiers_by_a_function():
    assert changes(EXISTING, auth_query_role="pgbouncer", **NEWSROOM) == [
        "create role pgbouncer",
        "let pgbouncer connect to newsroom",
        "let PgBouncer ask database newsroom for verifiers",
    ]


def test_only_what_differs_is_changed():
    server = {
        "roles": [role("newsroom", verifier="md5x", connection_limit=5, owns_in=["newsroom"])],
        "databases": [{"name": "newsroom", "owner": "other", "public": True, "connect": ["stranger"]}],
    }
    assert changes(server, **NEWSROOM) == [
        "set the attributes of role newsroom",
        "change the password of role newsroom",
        "give database newsroom to newsroom",
        "close database newsroom to everybody else",
        "no longer let stranger connect to newsroom",
    ]


def test_a_role_that_owns_nothing_is_dropped_and_an_owner_only_locked():
    assert changes({**EXISTING, "roles": [role("newsroom", granted_in=["newsroom"])]}) == [
        "lock role newsroom, which is no longer declared",
        "take the privileges of role newsroom in database newsroom",
        "drop role newsroom, which is no longer declared",
    ]
    assert changes(EXISTING) == ["lock role newsroom, which is no longer declared but still owns something"]
    locked = {**EXISTING, "roles": [role("newsroom", owns_in=["newsroom"], login=False, verifier=None)]}
    assert changes(locked) == []


EXISTING_B = role("newsroom_b", member_of=["newsroom"], settings=["log_min_messages=log", "role=newsroom"])
BOTH = {**NEWSROOM, "roles": [{"name": "newsroom"}, {"name": "newsroom_b", "acts_as": "newsroom"}]}
SECOND = {**NEWSROOM, "roles": [{"name": "newsroom", "login": False}, {"name": "newsroom_b", "acts_as": "newsroom"}]}


def test_a_second_login_acts_as_the_owner_and_the_first_keeps_working():
    assert changes(EXISTING, **BOTH) == ["create role newsroom_b", "let role newsroom_b act as newsroom"]
    server = {**EXISTING, "roles": [*EXISTING["roles"], EXISTING_B]}
    assert changes(server, **BOTH) == []
    # A role comes before the login that acts as it.
    assert changes(**{**BOTH, "roles": BOTH["roles"][::-1]})[:3] == [
        "create role newsroom",
        "create role newsroom_b",
        "let role newsroom_b act as newsroom",
    ]


def test_an_owner_that_may_no_longer_log_in_keeps_what_it_owns_and_loses_its_sessions():
    server = {**EXISTING, "roles": [*EXISTING["roles"], EXISTING_B]}
    assert changes(server, **SECOND) == ["no longer let role newsroom log in, and end its sessions"]
    (step,) = plan(server, **SECOND)
    assert "PASSWORD NULL" in step.sql and "pg_terminate_backend" in step.sql and "'newsroom'" in step.sql
    closed = role("newsroom", owns_in=["newsroom"], login=False, verifier=None)
    server = {**EXISTING, "roles": [closed, EXISTING_B]}
    assert changes(server, **SECOND) == []
    assert changes(server, **BOTH) == ["let role newsroom log in again"]


def test_a_second_login_that_is_no_longer_declared_is_dropped():
    server = {**EXISTING, "roles": [*EXISTING["roles"], EXISTING_B]}
    assert changes(server, **NEWSROOM) == [
        "lock role newsroom_b, which is no longer declared",
        "drop role newsroom_b, which is no longer declared",
    ]


def test_pgbouncers_role_may_leave_logging_in_to_its_second_login():
    roles = [{"name": "pgbouncer", "login": False}, {"name": "pgbouncer_b", "acts_as": "pgbouncer"}]
    wanted = {"databases": NEWSROOM["databases"], "roles": [*NEWSROOM["roles"], *roles], "auth_query_role": "pgbouncer"}
    passwords = dict.fromkeys(("newsroom", "pgbouncer_b"), PASSWORD)
    assert postgresql.postgresql_problems(wanted["databases"], wanted["roles"], passwords, "pgbouncer") == []
    assert changes(**wanted, passwords=passwords)[:4] == [
        "create role newsroom",
        "create role pgbouncer",
        "create role pgbouncer_b",
        "let role pgbouncer_b act as pgbouncer",
    ]


def test_a_second_login_may_connect_only_to_the_database_of_the_first():
    databases = [{"name": name, "owner": name} for name in ("newsroom", "shop")]
    rules = postgresql.postgresql_hba_rules(
        databases, ["192.0.2.1"], "pgbouncer", [*BOTH["roles"], {"name": "pgbouncer_b", "acts_as": "pgbouncer"}]
    )
    assert {rule["database"]: rule["users"] for rule in rules} == {
        "newsroom": ["newsroom", "newsroom_b", "pgbouncer", "pgbouncer_b"],
        "shop": ["shop", "pgbouncer", "pgbouncer_b"],
    }


def test_a_login_that_acts_as_an_undeclared_role_is_refused():
    problems = postgresql.postgresql_problems(
        NEWSROOM["databases"], [*NEWSROOM["roles"], {"name": "b", "acts_as": "shop"}], dict.fromkeys(("newsroom", "b"), PASSWORD)
    )
    assert problems == ["role 'b' acts as 'shop', which postgresql_roles does not declare"]


def test_a_database_is_dropped_only_by_name_and_its_owner_with_it():
    assert changes(EXISTING, databases_removed=["newsroom"]) == [
        "drop database newsroom with all its data",
        "lock role newsroom, which is no longer declared",
        "drop role newsroom, which is no longer declared",
    ]


def test_nothing_that_an_application_owns_goes_to_the_superuser():
    """Review finding 2. A SECURITY DEFINER function that was given to postgres would run as the superuser."""
    roles = [role(name, granted_in=["shop"]) for name in ("newsroom", "newsroom_b")]
    steps = plan(BLANK | {"roles": roles}, passwords={})
    assert not any("REASSIGN" in step.sql for step in steps)
    # Both are locked before the privileges are taken, so neither can create anything afterwards.
    assert [step.says.split()[0] for step in steps] == ["lock", "lock", "take", "drop", "take", "drop"]
    assert all("NOLOGIN" in step.sql and "pg_terminate_backend" in step.sql for step in steps[:2])


def test_a_failure_names_what_was_changed_and_what_was_not_tried():
    """psql stops at the first error."""
    steps = [postgresql_steps.Step(f"change {number}", "SELECT 1;") for number in range(4)]
    stderr = "step 0\nstep 1\npsql:<stdin>:9: ERROR:  canceling statement due to lock timeout\n"
    report = postgresql_steps.failure(steps, psql.PsqlError(stderr.strip(), stderr))
    assert (report["changed"], report["changes"], report["not_tried"]) == (True, ["change 0"], ["change 2", "change 3"])
    assert report["msg"].startswith("PostgreSQL stopped at 'change 1': ERROR:  canceling statement due to lock timeout")
    report = postgresql_steps.failure(steps, psql.PsqlError("connection refused"))
    assert report["changes"] == [] and len(report["not_tried"]) == 4


def test_roles_that_the_kit_did_not_create_are_left_alone():
    assert changes({**EXISTING, "roles": [role("newsroom", managed=False), role("postgres", managed=False)]}) == []


@pytest.mark.parametrize(
    ("text", "epoch"),
    [(None, None), ("", None), ("1970-01-02", 86400), ("1970-01-01T01:00:00+01:00", 0), ("1970-01-01T00:00:10Z", 10)],
)
def test_an_expiry_is_in_utc_unless_it_names_a_zone(text, epoch):
    assert postgresql_steps.moment(text) == epoch
