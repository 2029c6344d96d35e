"""Role pgbouncer without a host: descriptors, addresses, settings, and what needs a restart."""

import csv
import io

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.grunnfjell.platform.plugins.modules import pgbouncer_service
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import pgbouncer
from hypothesis import given
from hypothesis import strategies as st

counts = st.integers(min_value=1, max_value=20000)


@given(counts, counts, st.integers(min_value=0, max_value=1000), st.integers(min_value=1, max_value=50))
def test_every_client_and_every_pool_has_a_descriptor(clients, size, reserve, pools):
    limit = pgbouncer.pgbouncer_descriptors(clients, size, reserve, pools)
    needed = clients + (size + reserve) * pools
    assert needed < limit
    assert limit <= max(1024, 2 * (needed + pgbouncer.DESCRIPTOR_MARGIN))
    assert limit & (limit - 1) == 0


def test_a_thousand_clients_get_two_thousand_descriptors():
    assert pgbouncer.pgbouncer_descriptors(1000, 20, 5, 1) == 2048
    # A few more of anything need no restart.
    assert pgbouncer.pgbouncer_descriptors(1200, 40, 10, 4) == 2048


@pytest.mark.parametrize("numbers", [(0, 20, 5, 1), (1000, 0, 5, 1), (1000, 20, -1, 1), (1000, 20, 5, 0)])
def test_numbers_below_their_minimum_are_refused(numbers):
    with pytest.raises(AnsibleFilterError, match="must be at least 1"):
        pgbouncer.pgbouncer_descriptors(*numbers)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.77.0.5", "192.168.1.1,127.0.0.1", ["10.0.0.1", "fd00::1"], ""])
def test_loopback_and_private_addresses_are_accepted(address):
    assert pgbouncer.pgbouncer_public_addresses(address) == []


@pytest.mark.parametrize("address", ["*", "0.0.0.0", "::", "8.8.8.8", "db.example.org", "2a00:1450::1"])
def test_any_other_address_is_refused_even_with_a_private_one(address):
    assert pgbouncer.pgbouncer_public_addresses(address) == [address]
    assert pgbouncer.pgbouncer_public_addresses(["127.0.0.1", address]) == [address]


@pytest.mark.parametrize(
    ("address", "mode"),
    [
        ("127.0.0.1", "disable"),
        ("127.0.0.1, ::1", "disable"),
        ("", "disable"),
        ("10.0.0.1", "verify-ca"),
        (["127.0.0.1", "10.0.0.1"], "verify-ca"),
        ("db.example.org", "verify-ca"),
    ],
)
def test_clients_beyond_loopback_need_a_certificate(address, mode):
    assert pgbouncer.pgbouncer_client_tls(address) == mode
    assert pgbouncer.pgbouncer_problems(address or "127.0.0.1", "verify-ca") == [] or address == "db.example.org"
    problems = pgbouncer.pgbouncer_problems(address, "disable")
    assert any("plain text" in problem for problem in problems) == (mode != "disable")


@pytest.mark.parametrize(
    ("ignored", "wrong"), [([], False), (["extra_float_digits"], True), (["extra_float_digits", "options"], False)]
)
def test_a_list_of_ignored_parameters_without_options_is_refused(ignored, wrong):
    problems = pgbouncer.pgbouncer_problems("127.0.0.1", "disable", ignored)
    assert any("CVE-2026-107349" in problem for problem in problems) == wrong


def test_an_empty_list_is_left_out():
    assert pgbouncer.pgbouncer_settings({"ignore_startup_parameters": [], "pool_mode": "session"}, {}) == {"pool_mode": "session"}


def test_a_key_is_set_once_and_only_where_the_release_knows_it():
    own = {"pool_mode": "transaction", "max_prepared_statements": 200}
    assert pgbouncer.pgbouncer_settings(own, {"log_stats": False}, ["max_prepared_statements"]) == {
        "log_stats": "0",
        "pool_mode": "transaction",
    }
    with pytest.raises(AnsibleFilterError, match="set pgbouncer_pool_mode instead"):
        pgbouncer.pgbouncer_settings(own, {"pool_mode": "session"})


def test_auth_user_is_set_in_each_database_and_never_globally():
    databases = {"*": {"host": "10.0.0.1", "port": 5432}, "a": {"host": "10.0.0.2", "application_name": "it's a name"}}
    assert pgbouncer.pgbouncer_database_lines(databases, "asker") == {
        "*": "auth_user=asker host=10.0.0.1 port=5432",
        "a": "application_name='it''s a name' auth_user=asker host=10.0.0.2",
    }


def test_an_undeclared_database_leads_nowhere_and_has_no_auth_user():
    lines = pgbouncer.pgbouncer_database_lines({"a": {"host": "10.0.0.2"}}, "asker")
    assert lines == {"*": "host=/nonexistent", "a": "auth_user=asker host=10.0.0.2"}


def test_a_database_s_sessions_have_a_pool_of_their_size():
    databases = {"*": {"host": "10.0.0.1"}, "a": {"host": "10.0.0.2", "pool_size": 9}}
    lines = pgbouncer.pgbouncer_database_lines(databases, "asker", sessions=3, queries=2)
    assert set(lines) == {"*", "a", "a.session"}
    assert lines["a.session"] == "auth_user=asker dbname=a host=10.0.0.2 max_db_connections=5 pool_mode=session pool_size=3"


CONFIG = """key,value,default,changeable
listen_port,6432,6432,no
unix_socket_mode,511,0777,no
unix_socket_dir,/run/a,/tmp,no
conffile,/etc/x,,no
pool_mode,transaction,session,yes
server_login_retry,1,15,yes
log_connections,0,1,yes
"""


@pytest.mark.parametrize(
    ("wanted", "soft", "hard"),
    [
        ({"unix_socket_dir": "/run/a", "pool_mode": "transaction", "server_login_retry": "1.0", "log_connections": "no"}, [], []),
        ({"unix_socket_dir": "/run/a", "pool_mode": "session", "listen_port": "6432"}, ["pool_mode"], []),
        ({"unix_socket_dir": "/run/a", "listen_port": "6433", "unix_socket_mode": "0777"}, [], ["listen_port"]),
        # A key that left the file returns to its default, which needs the restart too.
        ({}, [], ["unix_socket_dir"]),
    ],
)
def test_only_keys_that_pgbouncer_cannot_change_at_run_time_need_a_restart(wanted, soft, hard):
    running = {row["key"]: row for row in csv.DictReader(io.StringIO(CONFIG))}
    assert pgbouncer_service.differing(running, wanted) == (soft, hard)


def test_the_soft_limit_of_descriptors_is_read():
    text = "Limit  Soft Limit  Hard Limit  Units\nMax open files            2048                 20000                files\n"
    assert pgbouncer_service.descriptor_limit(text) == 2048
    assert pgbouncer_service.descriptor_limit("") == 0


def test_the_twin_listens_on_no_network():
    twin = pgbouncer_service.twin_ini("[pgbouncer]\nlisten_addr = 10.0.0.1\n", "/tmp/x")
    assert twin.rindex("listen_addr =\n") > twin.rindex("listen_addr = 10.0.0.1")
    assert "unix_socket_dir = /tmp/x" in twin


@pytest.mark.parametrize(
    ("databases", "connections"),
    [
        ({"*": {"host": "192.0.2.1"}}, 20 + 5 + 2),
        ({"*": {}, "shop": {"pool_size": 40}}, 40 + 5 + 2),
        ({"*": {"pool_size": 10, "reserve_pool": 9}}, 20 + 9 + 2),
    ],
)
def test_the_pools_of_two_logins_together_are_no_larger_than_that_of_one(databases, connections):
    assert pgbouncer.pgbouncer_database_connections(databases, 20, "5", 2) == connections
