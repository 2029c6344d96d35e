"""Role postgresql without a host: sizes, access rules, and the plan from what stands to what is declared."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.grunnfjell.platform.plugins.module_utils import postgresql_steps, psql, scram
from ansible_collections.grunnfjell.platform.plugins.modules import postgresql_cluster
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import postgresql
from hypothesis import given
from hypothesis import strategies as st

MIB, GIB = 1024**2, 1024**3
UNIT = {"kB": 1024, "MB": MIB}

memories = st.integers(min_value=256 * MIB, max_value=2048 * GIB)


def in_bytes(size: str) -> int:
    return int(size[:-2]) * UNIT[size[-2:]]


@given(memories, st.floats(min_value=0, max_value=1))
def test_everything_that_may_be_taken_at_once_fits_the_host(memory, share):
    connections = max(1, int(postgresql.connections_that_fit(memory) * share))
    sizes = {key: in_bytes(value) for key, value in postgresql.postgresql_sizes(memory, connections).items()}
    taken = sizes["shared_buffers"] + 4 * sizes["maintenance_work_mem"]
    taken += connections * (sizes["work_mem"] + postgresql.BACKEND_BYTES)
    assert taken <= memory
    # A kilobyte is lost by rounding down.
    assert postgresql.WORK_MEM_MIN - 1024 <= sizes["work_mem"] <= postgresql.WORK_MEM_MAX
    assert sizes["min_wal_size"] < sizes["max_wal_size"]
    assert sizes["shared_buffers"] <= sizes["effective_cache_size"] < memory


@given(memories)
def test_one_connection_too_many_is_refused_with_both_numbers(memory):
    fit = postgresql.connections_that_fit(memory)
    with pytest.raises(AnsibleFilterError, match=f"is {fit + 1}, but .* are enough for {fit} connections"):
        postgresql.postgresql_sizes(memory, fit + 1)


@given(memories, memories, st.integers(min_value=1, max_value=33))
def test_more_memory_never_makes_anything_smaller(one, other, connections):
    less, more = (postgresql.postgresql_sizes(memory, connections) for memory in sorted((one, other)))
    assert all(in_bytes(less[key]) <= in_bytes(more[key]) for key in less)


@pytest.mark.parametrize("memory", ["", "lots", None, 0, -1])
def test_a_memory_that_is_no_number_of_bytes_is_refused(memory):
    with pytest.raises(AnsibleFilterError, match="postgresql_memory_bytes"):
        postgresql.postgresql_sizes(memory, 10)


def test_a_host_of_eight_gigabytes_gets_the_usual_quarter():
    assert postgresql.postgresql_sizes(8 * GIB, 100) == {
        "shared_buffers": "2048MB",
        "effective_cache_size": "6144MB",
        "work_mem": "40968kB",
        "maintenance_work_mem": "256MB",
        "max_wal_size": "2048MB",
        "min_wal_size": "512MB",
    }


def test_a_key_has_one_home():
    assert postgresql.postgresql_settings({"port": 5432}, {"jit": False}) == {"jit": "off", "port": "5432"}
    with pytest.raises(AnsibleFilterError, match="Set postgresql_port instead"):
        postgresql.postgresql_settings({"port": 5432}, {"PORT": 1})


@given(st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"])))
def test_a_value_survives_the_way_through_the_file(value):
    line = f"some_key = '{postgresql.postgresql_value(value)}'"
    if "\n" not in value and len(line.splitlines()) == 1:
        assert postgresql_cluster.parse_settings(line) == {"some_key": value}


def test_access_rules_name_each_database_with_its_roles_and_merge_addresses():
    databases = [{"name": "newsroom", "owner": "newsroom", "roles": ["reports"]}]
    assert postgresql.postgresql_hba_rules(databases, ["10.0.0.2", "10.0.0.3", "10.0.0.2/32"], "pgbouncer") == [
        {"database": "newsroom", "users": ["newsroom", "reports", "pgbouncer"], "address": "10.0.0.2/31"}
    ]


@pytest.mark.parametrize("address", ["0.0.0.0/0", "::/0", "db.example.org", "10.0.0.300"])
def test_everybody_and_names_are_refused_as_clients(address):
    with pytest.raises(AnsibleFilterError, match="postgresql_client_addresses"):
        postgresql.postgresql_hba_rules([], [address])


PASSWORD = "a-long-enough-password"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"databases": [{"name": "newsroom", "owner": "nobody"}]}, "names the role 'nobody'"),
        ({"databases": [{"name": "template1", "owner": "newsroom"}]}, "PostgreSQL's own"),
        ({"roles": [{"name": "newsroom"}, {"name": "newsroom"}]}, "declared twice"),
        ({"roles": [{"name": "newsroom"}, {"name": "Big-Name"}]}, "no plain name"),
        ({"roles": [{"name": "newsroom"}, {"name": "pg_monitor"}]}, "PostgreSQL's own"),
        ({"roles": [{"name": "newsroom", "valid_until": "tomorrow"}]}, "has valid_until 'tomorrow'"),
        ({"roles": [{"name": "newsroom", "connection_limit": -5}]}, "has connection_limit -5"),
        ({"roles": [{"name": "newsroom"}, {"name": "pgbouncer"}]}, "nobody else may use the role"),
        ({"passwords": {"newsroom": PASSWORD}}, "role 'pgbouncer' has no password"),
        ({"passwords": {"newsroom": "blåbærsyltetøy", "pgbouncer": PASSWORD}}, "not printable ASCII"),
        ({"passwords": {"newsroom": "short", "pgbouncer": PASSWORD}}, "shorter than"),
        ({"databases_removed": ["newsroom"]}, "take it out of one of them"),
        ({"databases_removed": ["postgres"]}, "cannot be in postgresql_databases_removed"),
    ],
)
def test_a_wrong_declaration_gets_its_sentence_and_no_password(change, says):
    right = {
        "databases": [{"name": "newsroom", "owner": "newsroom"}],
        "roles": [{"name": "newsroom"}],
        "passwords": {"newsroom": PASSWORD, "pgbouncer": PASSWORD},
        "auth_query_role": "pgbouncer",
        "databases_removed": [],
    }
    assert postgresql.postgresql_problems(**right) == []
    problems = "; ".join(postgresql.postgresql_problems(**{**right, **change}))
    assert says in problems
    assert "short;" not in problems and PASSWORD not in problems and "blåbær" not in problems


# --- the cluster: what needs a restart -------------------------------------------------------------------------------

POSTMASTER = {
    "shared_buffers": {"value": "32768", "unit": "8kB", "type": "integer"},
    "max_connections": {"value": "100", "unit": "", "type": "integer"},
    "ssl_x": {"value": "on", "unit": "", "type": "bool"},
    "listen_addresses": {"value": "localhost", "unit": "", "type": "string"},
}


@pytest.mark.parametrize(
    ("wanted", "restart"),
    [
        ({"shared_buffers": "256MB", "max_connections": "100", "ssl_x": "true", "listen_addresses": "localhost"}, []),
        ({"shared_buffers": "262144kB"}, []),
        ({"shared_buffers": "257MB"}, ["shared_buffers"]),
        ({"max_connections": "200", "listen_addresses": "*"}, ["listen_addresses", "max_connections"]),
        ({"work_mem": "1GB"}, []),
    ],
)
def test_a_restart_is_predicted_only_for_what_the_server_cannot_reload(wanted, restart):
    assert postgresql_cluster.predict_restart(wanted, POSTMASTER) == restart


# --- databases and roles ---------------------------------------------------------------------------------------------


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
def test_what_is_no_scram_verifier_matches_nothing(stored):
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


def says(server=None, auth=None, **wanted) -> list[str]:
    server = server or {"roles": [], "databases": []}
    wanted = {
        "roles": [],
        "databases": [],
        "databases_removed": [],
        "auth_query_role": "",
        "passwords": dict.fromkeys(("newsroom", "pgbouncer", "guest"), PASSWORD),
        **wanted,
    }
    steps = postgresql_steps.plan(server, auth or {}, wanted)
    assert PASSWORD not in postgresql_steps.script(steps)
    return [step.says for step in steps]


NEWSROOM = {"roles": [{"name": "newsroom"}], "databases": [{"name": "newsroom", "owner": "newsroom"}]}
STANDING = {
    "roles": [role("postgres", managed=False), role("newsroom", owns_in=["newsroom"])],
    "databases": [{"name": "newsroom", "owner": "newsroom", "public": False, "connect": []}],
}


def test_a_blank_server_gets_everything_and_a_right_one_nothing():
    assert says(**NEWSROOM) == [
        "create role newsroom",
        "create database newsroom, owned by newsroom",
        "close database newsroom to everybody else",
    ]
    assert says(STANDING, **NEWSROOM) == []


def test_pgbouncers_role_connects_everywhere_and_asks_by_a_function():
    assert says(STANDING, auth_query_role="pgbouncer", **NEWSROOM) == [
        "create role pgbouncer",
        "let pgbouncer connect to newsroom",
        "let PgBouncer ask database newsroom for verifiers",
    ]


def test_only_what_differs_is_changed():
    server = {
        "roles": [role("newsroom", verifier="md5x", connection_limit=5, owns_in=["newsroom"])],
        "databases": [{"name": "newsroom", "owner": "other", "public": True, "connect": ["stranger"]}],
    }
    assert says(server, **NEWSROOM) == [
        "set the attributes of role newsroom",
        "change the password of role newsroom",
        "give database newsroom to newsroom",
        "close database newsroom to everybody else",
        "no longer let stranger connect to newsroom",
    ]


def test_a_role_without_possessions_goes_and_an_owner_is_only_locked():
    assert says({**STANDING, "roles": [role("newsroom", granted_in=["newsroom"])]}) == [
        "lock role newsroom, which is no longer declared",
        "take the privileges of role newsroom in database newsroom",
        "drop role newsroom, which is no longer declared",
    ]
    assert says(STANDING) == ["lock role newsroom, which is no longer declared but still owns something"]
    locked = {**STANDING, "roles": [role("newsroom", owns_in=["newsroom"], login=False, verifier=None)]}
    assert says(locked) == []


BOTH = {**NEWSROOM, "roles": [{"name": "newsroom"}, {"name": "newsroom_b", "acts_as": "newsroom"}]}
SECOND = {**NEWSROOM, "roles": [{"name": "newsroom", "login": False}, {"name": "newsroom_b", "acts_as": "newsroom"}]}
ACTING = {"member_of": ["newsroom"], "settings": ["log_min_messages=log", "role=newsroom"]}
PASSWORDS = {"passwords": dict.fromkeys(("newsroom", "newsroom_b"), PASSWORD)}


def test_a_second_login_acts_as_the_owner_and_the_first_goes_on():
    assert says(STANDING, **BOTH, **PASSWORDS) == ["create role newsroom_b", "let role newsroom_b act as newsroom"]
    standing = {**STANDING, "roles": [*STANDING["roles"], role("newsroom_b", **ACTING)]}
    assert says(standing, **BOTH, **PASSWORDS) == []
    # Whoever acts as a role that is made in the same run comes after it.
    first = says({"roles": [], "databases": []}, **{**BOTH, "roles": BOTH["roles"][::-1]}, **PASSWORDS)
    assert first[:3] == ["create role newsroom", "create role newsroom_b", "let role newsroom_b act as newsroom"]


def test_an_owner_that_no_longer_logs_in_keeps_what_it_owns_and_loses_its_sessions():
    standing = {**STANDING, "roles": [*STANDING["roles"], role("newsroom_b", **ACTING)]}
    assert says(standing, **SECOND, **PASSWORDS) == ["no longer let role newsroom log in, and end its sessions"]
    steps = postgresql_steps.plan(
        standing, {}, {**SECOND, **PASSWORDS, "auth_query_role": "", "databases_removed": []}
    )  # fmt: skip
    assert "PASSWORD NULL" in steps[0].sql and "pg_terminate_backend" in steps[0].sql and "'newsroom'" in steps[0].sql
    closed = role("newsroom", owns_in=["newsroom"], login=False, verifier=None)
    standing = {**STANDING, "roles": [closed, role("newsroom_b", **ACTING)]}
    assert says(standing, **SECOND, **PASSWORDS) == []
    assert says(standing, **BOTH, **PASSWORDS) == ["let role newsroom log in again"]


def test_a_second_login_whose_turn_is_over_is_dropped():
    standing = {**STANDING, "roles": [*STANDING["roles"], role("newsroom_b", **ACTING)]}
    assert says(standing, **NEWSROOM, **PASSWORDS) == [
        "lock role newsroom_b, which is no longer declared",
        "drop role newsroom_b, which is no longer declared",
    ]


def test_pgbouncers_own_role_may_be_one_that_only_its_second_login_acts_as():
    roles = [{"name": "pgbouncer", "login": False}, {"name": "pgbouncer_b", "acts_as": "pgbouncer"}]
    wanted = {"databases": NEWSROOM["databases"], "roles": [*NEWSROOM["roles"], *roles], "auth_query_role": "pgbouncer"}
    passwords = dict.fromkeys(("newsroom", "pgbouncer_b"), PASSWORD)
    assert postgresql.postgresql_problems(wanted["databases"], wanted["roles"], passwords, "pgbouncer") == []
    assert says({"roles": [], "databases": []}, **wanted, passwords=passwords)[:4] == [
        "create role newsroom",
        "create role pgbouncer",
        "create role pgbouncer_b",
        "let role pgbouncer_b act as pgbouncer",
    ]


def test_a_second_login_comes_over_the_network_to_its_own_database_alone():
    databases = [{"name": name, "owner": name} for name in ("newsroom", "shop")]
    rules = postgresql.postgresql_hba_rules(
        databases, ["192.0.2.1"], "pgbouncer", [*BOTH["roles"], {"name": "pgbouncer_b", "acts_as": "pgbouncer"}]
    )
    assert {rule["database"]: rule["users"] for rule in rules} == {
        "newsroom": ["newsroom", "newsroom_b", "pgbouncer", "pgbouncer_b"],
        "shop": ["shop", "pgbouncer", "pgbouncer_b"],
    }


def test_a_login_that_acts_as_nobody_is_refused():
    problems = postgresql.postgresql_problems(
        NEWSROOM["databases"], [*NEWSROOM["roles"], {"name": "b", "acts_as": "shop"}], dict.fromkeys(("newsroom", "b"), PASSWORD)
    )
    assert problems == ["role 'b' acts as 'shop', which postgresql_roles does not declare"]


def test_a_database_goes_only_when_it_is_named_and_its_owner_with_it():
    assert says(STANDING, databases_removed=["newsroom"]) == [
        "drop database newsroom with all its data",
        "lock role newsroom, which is no longer declared",
        "drop role newsroom, which is no longer declared",
    ]


def test_nothing_that_an_application_owns_becomes_the_superusers():
    """Review finding 2. A SECURITY DEFINER function that was given to postgres would run as the superuser."""
    roles = [role(name, granted_in=["shop"]) for name in ("newsroom", "newsroom_b")]
    wanted = {"roles": [], "databases": [], "databases_removed": [], "auth_query_role": "", "passwords": {}}
    steps = postgresql_steps.plan({"roles": roles, "databases": []}, {}, wanted)
    assert not any("REASSIGN" in step.sql for step in steps)
    # Nobody can still create anything, as either of them, when the privileges are taken.
    assert [step.says.split()[0] for step in steps] == ["lock", "lock", "take", "drop", "take", "drop"]
    assert all("NOLOGIN" in step.sql and "pg_terminate_backend" in step.sql for step in steps[:2])


def test_a_failure_names_what_was_done_and_what_was_not_tried():
    """Review of the structure, (b) 2. psql stops at the first error."""
    steps = [postgresql_steps.Step(f"change {number}", "SELECT 1;") for number in range(4)]
    stderr = "step 0\nstep 1\npsql:<stdin>:9: ERROR:  canceling statement due to lock timeout\n"
    report = postgresql_steps.failure(steps, psql.PsqlError(stderr.strip(), stderr))
    assert (report["changed"], report["changes"], report["not_tried"]) == (True, ["change 0"], ["change 2", "change 3"])
    assert report["msg"].startswith("PostgreSQL stopped at 'change 1': ERROR:  canceling statement due to lock timeout")
    report = postgresql_steps.failure(steps, psql.PsqlError("connection refused"))
    assert report["changes"] == [] and len(report["not_tried"]) == 4


def test_roles_that_the_kit_did_not_make_are_left_alone():
    assert says({**STANDING, "roles": [role("newsroom", managed=False), role("postgres", managed=False)]}) == []


@pytest.mark.parametrize(
    ("text", "epoch"),
    [(None, None), ("", None), ("1970-01-02", 86400), ("1970-01-01T01:00:00+01:00", 0), ("1970-01-01T00:00:10Z", 10)],
)
def test_an_expiry_is_a_moment_in_utc_unless_it_says_otherwise(text, epoch):
    assert postgresql_steps.moment(text) == epoch
