"""Whether a service still accepts a retired login. The tools are stand-ins here; the drill asks the services."""

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import psql, rabbitmq_cli
from ansible_collections.grunnfjell.platform.plugins.modules import retired_logins

SECRET = "the former secret"
LOGINS = [{"name": "shop", "login": "shop_b", "secret": SECRET}]
PARAMS = {"logins": LOGINS, "cookies": [], "address": "127.0.0.1", "port": 6432, "socket_dir": "/run/postgresql"}


@pytest.mark.parametrize(
    "refusal", ["FATAL:  password authentication failed", "FATAL:  SASL authentication failed", "FATAL:  no such user: shop_b"]
)
def test_a_bouncer_that_refuses_is_reported_so_and_the_password_is_in_no_argument(answer, refusal):
    calls = answer(2, err=refusal)
    assert list(retired_logins.Pgbouncer(PARAMS).let_in()) == []
    (call,) = calls
    assert SECRET not in " ".join(call["argv"]) and call["env"].get("PGPASSWORD") == SECRET


def test_a_login_that_a_bouncer_still_accepts_is_named(answer):
    answer(0, out="1\n")
    assert list(retired_logins.Pgbouncer(PARAMS).let_in()) == ["shop_b"]


def test_a_bouncer_that_does_not_answer_does_not_count_as_refusing(answer):
    answer(2, err="connection to server failed: Connection refused")
    with pytest.raises(retired_logins.NoAnswer, match="could not be queried"):
        list(retired_logins.Pgbouncer(PARAMS).let_in())


def test_a_bouncer_that_demands_certificates_gets_that_of_the_host(answer):
    """Review finding 10."""
    tls = {"name": "db-1", "authorities": "/a.pem", "certificate": "/c.pem", "key": "/k.pem"}
    calls = answer(2, err="FATAL:  SASL authentication failed")
    assert list(retired_logins.Pgbouncer(PARAMS | {"address": "10.0.0.21", "tls": tls}).let_in()) == []
    environment = calls[0]["env"]
    assert environment["PGSSLMODE"] == "verify-full" and environment["PGSSLCERT"] == "/c.pem"
    # The certificate is verified by the name, not by the address.
    assert (environment["PGHOST"], environment["PGHOSTADDR"]) == ("db-1", "10.0.0.21")


@pytest.mark.parametrize(
    "failure", ["SSL error: tlsv13 alert certificate required", 'root certificate file "/a.pem" does not exist']
)
def test_a_failure_of_tls_does_not_count_as_refusing(answer, failure):
    answer(2, err=f"connection to server failed: {failure}")
    with pytest.raises(retired_logins.NoAnswer, match="could not be queried"):
        list(retired_logins.Pgbouncer(PARAMS).let_in())


def test_a_session_on_the_console_of_a_bouncer_is_not_a_use_of_a_login(answer):
    answer(0, out="user,database\nshop_b,shop\nadministrator,pgbouncer\n")
    assert retired_logins.Pgbouncer(PARAMS).users() == {"shop_b"}


@pytest.mark.parametrize(("may", "there", "let_in"), [("", "", []), ("shop_b", "", ["shop_b"]), ("", "shop_b", ["shop_b"])])
def test_postgresql_accepts_logins_that_may_log_in_or_are_connected(monkeypatch, may, there, let_in):
    answers = {"pg_roles": may, "pg_stat_activity": there}
    answer = {table: f"postgres\nshop\n{login}\n" for table, login in answers.items()}
    monkeypatch.setattr(psql, "superuser", lambda query, port: next(answer[table] for table in answer if table in query))
    assert list(retired_logins.Postgresql(PARAMS).let_in()) == let_in


def test_a_broker_serves_the_users_of_its_connections(monkeypatch):
    monkeypatch.setattr(rabbitmq_cli, "call", lambda *arguments: '[{"user": "shop"}, {"user": "shop"}]')
    assert retired_logins.Rabbitmq(PARAMS).users() == {"shop"}
