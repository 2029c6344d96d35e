"""How a rotation sees that PgBouncer refuses the old passwords, on loopback and behind certificates. Review finding 10."""

from __future__ import annotations

import pytest
from playing import Played, play

testinfra_hosts = ["ansible://pgbouncer"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

VALID = "{{ hostvars[groups['postgresql'][0]]['postgresql_role_passwords']['news'] }}"


@pytest.fixture
def ask(host, request):
    def run(secret: str, **inputs) -> Played:
        variables = {"former_logins": [{"name": "news", "login": "news", "secret": secret}], **inputs}
        limit = ["--limit", host.backend.get_hostname()]
        return play(request.config.option.ansible_inventory, "molecule/pgbouncer/former.yml", *limit, variables=variables)

    return run


def test_a_retired_password_is_seen_refused(ask):
    done = ask("a-password-that-went")
    assert done.returncode == 0, done.printed


def test_a_valid_password_is_seen_let_in(ask):
    done = ask(VALID)
    assert done.returncode and "pgbouncer still accepts news" in done.said, done.printed


@pytest.mark.parametrize("inputs", [{"pgbouncer_listen_port": 6999}, {"pgbouncer_client_tls_ca_file": "/nonexistent"}])
def test_a_bouncer_that_was_not_asked_has_refused_nobody(ask, inputs, fleet_inputs, host):
    plain = fleet_inputs[host.backend.get_hostname()]["pgbouncer_client_tls_sslmode"] == "disable"
    if plain and "pgbouncer_client_tls_ca_file" in inputs:
        pytest.skip("this bouncer is beside its clients, and speaks no TLS")
    done = ask("a-password-that-went", **inputs)
    assert done.returncode and "PgBouncer could not be queried" in done.said, done.printed
