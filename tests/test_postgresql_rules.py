"""Role postgresql without a host: sizes, settings, access rules, wrong declarations, restarts."""

import pytest
from ansible.errors import AnsibleFilterError
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
def test_all_memory_that_may_be_used_at_once_fits_the_host(memory, share):
    connections = max(1, int(postgresql.connections_that_fit(memory) * share))
    sizes = {key: in_bytes(value) for key, value in postgresql.postgresql_sizes(memory, connections).items()}
    used = sizes["shared_buffers"] + 4 * sizes["maintenance_work_mem"]
    used += connections * (sizes["work_mem"] + postgresql.BACKEND_BYTES)
    assert used <= memory
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
def test_more_memory_never_makes_anything_smaller(first, second, connections):
    less, more = (postgresql.postgresql_sizes(memory, connections) for memory in sorted((first, second)))
    assert all(in_bytes(less[key]) <= in_bytes(more[key]) for key in less)


@pytest.mark.parametrize("memory", ["", "lots", None, 0, -1])
def test_a_memory_that_is_not_a_number_of_bytes_is_refused(memory):
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


def test_a_key_of_the_role_is_refused_among_the_parameters():
    assert postgresql.postgresql_settings({"port": 5432}, {"jit": False}) == {"jit": "off", "port": "5432"}
    with pytest.raises(AnsibleFilterError, match="Set postgresql_port instead"):
        postgresql.postgresql_settings({"port": 5432}, {"PORT": 1})


@given(st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"])))
def test_a_value_is_read_from_the_file_as_it_was_written(value):
    line = f"some_key = '{postgresql.postgresql_value(value)}'"
    if "\n" not in value and len(line.splitlines()) == 1:
        assert postgresql_cluster.parse_settings(line) == {"some_key": value}


def test_access_rules_name_each_database_with_its_roles_and_merge_addresses():
    databases = [{"name": "newsroom", "owner": "newsroom", "roles": ["reports"]}]
    assert postgresql.postgresql_hba_rules(databases, ["10.0.0.2", "10.0.0.3", "10.0.0.2/32"], "pgbouncer") == [
        {"database": "newsroom", "users": ["newsroom", "reports", "pgbouncer"], "address": "10.0.0.2/31"}
    ]


@pytest.mark.parametrize("address", ["0.0.0.0/0", "::/0", "db.example.org", "10.0.0.300"])
def test_all_addresses_and_names_are_refused_as_clients(address):
    with pytest.raises(AnsibleFilterError, match="postgresql_client_addresses"):
        postgresql.postgresql_hba_rules([], [address])


PASSWORD = "a-long-enough-password"


@pytest.mark.parametrize(
    ("change", "sentence"),
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
def test_a_wrong_declaration_is_refused_without_showing_a_password(change, sentence):
    right = {
        "databases": [{"name": "newsroom", "owner": "newsroom"}],
        "roles": [{"name": "newsroom"}],
        "passwords": {"newsroom": PASSWORD, "pgbouncer": PASSWORD},
        "auth_query_role": "pgbouncer",
        "databases_removed": [],
    }
    assert postgresql.postgresql_problems(**right) == []
    problems = "; ".join(postgresql.postgresql_problems(**{**right, **change}))
    assert sentence in problems
    assert "short;" not in problems and PASSWORD not in problems and "blåbær" not in problems


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
