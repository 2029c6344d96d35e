"""How a rotation checks that PgBouncer refuses the old passwords, on loopback and behind certificates. Review finding 10."""

from __future__ import annotations

import pytest
from playbook_runner import PlaybookRun

testinfra_hosts = ["ansible://pgbouncer"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

VALID = "{{ hostvars[groups['postgresql'][0]]['postgresql_role_passwords']['news'] }}"
RETIRED = "a-retired-password"


@pytest.fixture
def check(converge):
    def run(secret: str, **inputs) -> PlaybookRun:
        logins = [{"name": "news", "login": "news", "secret": secret}]
        return converge("molecule/pgbouncer/former.yml", former_logins=logins, **inputs)

    return run


def test_a_retired_password_counts_as_refused(check):
    run = check(RETIRED)
    assert run.returncode == 0, run.output


def test_a_valid_password_counts_as_accepted(check):
    check(VALID).assert_failed("pgbouncer still accepts news")


@pytest.mark.parametrize("overrides", [{"pgbouncer_listen_port": 6999}, {"pgbouncer_client_tls_ca_file": "/nonexistent"}])
def test_an_unreachable_bouncer_does_not_count_as_a_refusal(check, overrides, inputs):
    if "pgbouncer_client_tls_ca_file" in overrides and inputs["pgbouncer_client_tls_sslmode"] == "disable":
        pytest.skip("this bouncer is on the host of its clients, and speaks no TLS")
    check(RETIRED, **overrides).assert_failed("PgBouncer could not be queried")
