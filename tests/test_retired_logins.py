"""What a service says of a login that is to go, or that went. The tools are stand-ins here; the drill asks the services."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import bounded, psql, rabbitmq_cli
from ansible_collections.grunnfjell.platform.plugins.modules import retired_logins

SECRET = "the former secret"
LOGINS = [{"name": "shop", "login": "shop_b", "secret": SECRET}]
PARAMS = {"logins": LOGINS, "cookies": [], "address": "127.0.0.1", "port": 6432, "socket_dir": "/run/postgresql"}


@pytest.fixture
def says(monkeypatch):
    """Have the next command answer so; returns what was run, each with its environment."""
    ran = []

    def answer(returncode: int, out: str = "", err: str = ""):
        def run(argv, timeout, stdin="", **options):
            ran.append((argv, options.get("env", {})))
            return subprocess.CompletedProcess(argv, returncode, out, err)

        monkeypatch.setattr(bounded, "run", run)
        return ran

    return answer


@pytest.mark.parametrize(
    "refusal", ["FATAL:  password authentication failed", "FATAL:  SASL authentication failed", "FATAL:  no such user: shop_b"]
)
def test_a_bouncer_that_refuses_lets_nobody_in_and_the_password_is_in_no_argument(says, refusal):
    ran = says(2, err=refusal)
    assert list(retired_logins.Pgbouncer(PARAMS).let_in()) == []
    ((argv, environment),) = ran
    assert SECRET not in " ".join(argv) and environment.get("PGPASSWORD") == SECRET


def test_a_bouncer_that_still_lets_a_login_in_is_named(says):
    says(0, out="1\n")
    assert list(retired_logins.Pgbouncer(PARAMS).let_in()) == ["shop_b"]


def test_a_bouncer_that_does_not_answer_has_refused_nobody(says):
    says(2, err="connection to server failed: Connection refused")
    with pytest.raises(retired_logins.NoAnswer, match="could not be queried"):
        list(retired_logins.Pgbouncer(PARAMS).let_in())


def test_a_bouncer_that_demands_certificates_is_shown_the_hosts_own(says):
    """Review finding 10."""
    tls = {"name": "db-1", "authorities": "/a.pem", "certificate": "/c.pem", "key": "/k.pem"}
    ran = says(2, err="FATAL:  SASL authentication failed")
    assert list(retired_logins.Pgbouncer(PARAMS | {"address": "10.0.0.21", "tls": tls}).let_in()) == []
    ((_, environment),) = ran
    assert environment["PGSSLMODE"] == "verify-full" and environment["PGSSLCERT"] == "/c.pem"
    # The certificate is the one of the name, wherever it listens.
    assert (environment["PGHOST"], environment["PGHOSTADDR"]) == ("db-1", "10.0.0.21")


@pytest.mark.parametrize(
    "failure", ["SSL error: tlsv13 alert certificate required", 'root certificate file "/a.pem" does not exist']
)
def test_a_bouncer_that_was_not_reached_by_tls_has_refused_nobody(says, failure):
    says(2, err=f"connection to server failed: {failure}")
    with pytest.raises(retired_logins.NoAnswer, match="could not be queried"):
        list(retired_logins.Pgbouncer(PARAMS).let_in())


def test_whoever_is_on_the_bouncers_own_console_uses_no_login(says):
    says(0, out="user,database\nshop_b,shop\nadministrator,pgbouncer\n")
    assert retired_logins.Pgbouncer(PARAMS).users() == {"shop_b"}


@pytest.mark.parametrize(("may", "there", "let_in"), [("", "", []), ("shop_b", "", ["shop_b"]), ("", "shop_b", ["shop_b"])])
def test_postgresql_lets_in_whoever_may_log_in_or_is_there(monkeypatch, may, there, let_in):
    answers = {"pg_roles": may, "pg_stat_activity": there}
    answer = {table: f"postgres\nshop\n{login}\n" for table, login in answers.items()}
    monkeypatch.setattr(psql, "superuser", lambda query, port: next(answer[table] for table in answer if table in query))
    assert list(retired_logins.Postgresql(PARAMS).let_in()) == let_in


def test_a_broker_serves_whoever_has_a_connection(monkeypatch):
    monkeypatch.setattr(rabbitmq_cli, "call", lambda *arguments: '[{"user": "shop"}, {"user": "shop"}]')
    assert retired_logins.Rabbitmq(PARAMS).users() == {"shop"}
