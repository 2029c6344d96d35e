"""Logins that PgBouncer must refuse, and attempts to crash it."""

from __future__ import annotations

import json
import shlex

import pytest
from pgbouncer_client import PASSFILE

testinfra_hosts = ["ansible://pgbouncer"]


def assert_unknown_user(result) -> None:
    # The verifier never leaves PostgreSQL: PgBouncer reports an unknown user, or checks against a made-up verifier.
    refused = "no such user" in result.stderr or "authentication failed" in result.stderr
    assert result.rc and refused, result.stdout + result.stderr


@pytest.mark.disruptive
@pytest.mark.once
def test_a_wrong_password_is_refused(host, login):
    host.check_output(f"install -m 0600 /dev/null {PASSFILE}-wrong && echo '*:*:*:*:wrong' > {PASSFILE}-wrong")
    result = login("SELECT 1", passfile=f"{PASSFILE}-wrong")
    assert result.rc and "SASL authentication failed" in result.stderr, result.stderr


@pytest.mark.disruptive
@pytest.mark.once
@pytest.mark.parametrize("user", ["postgres", "nobody_at_all"])
def test_a_superuser_and_an_unknown_user_are_refused(login, user):
    assert_unknown_user(login("SELECT 1", user=user))


@pytest.mark.once
@pytest.mark.disruptive
def test_an_expired_role_is_refused_with_its_password(host, login, database, postgresql_here):
    assert login("SELECT 1").stdout.strip() == "1"
    postgresql_here(f"ALTER ROLE {database['login']} VALID UNTIL '2020-01-01'")
    try:
        assert_unknown_user(login("SELECT 1"))
    finally:
        postgresql_here(f"ALTER ROLE {database['login']} VALID UNTIL 'infinity'")
    assert login("SELECT 1").stdout.strip() == "1"


@pytest.mark.disruptive
@pytest.mark.once
def test_one_application_cannot_enter_the_database_of_another(login, databases, database):
    for other in databases:
        if other["name"] != database["name"] and database["owner"] not in [other["owner"], *other.get("roles", [])]:
            assert login("SELECT 1", name=other["name"]).rc, f"{database['owner']} entered {other['name']}"


@pytest.mark.once
@pytest.mark.disruptive
def test_an_unnamed_option_at_login_does_not_stop_pgbouncer(host, config, address, login, database):
    """CVE-2026-107349: PgBouncer 1.20 to 1.26 would loop for ever."""
    start = f"user\\0{database['login']}\\0database\\0{database['name']}\\0options\\0-c=\\0\\0"
    send = (
        f"import socket,struct; b=b'{start}'; s=socket.create_connection(('{address}',{config['listen_port']}),5); "
        "s.sendall(struct.pack('!II',len(b)+8,196608)+b); s.settimeout(2); print(s.recv(100))"
    )
    host.run(f"timeout 10 python3 -c {shlex.quote(send)}")
    assert login("SELECT 1").stdout.strip() == "1"


@pytest.mark.disruptive
@pytest.mark.once
def test_nobody_reaches_or_crashes_the_console_over_the_network(host, login, database):
    before = host.service("pgbouncer").systemd_properties["MainPID"]
    # With a global auth_user each of these would crash PgBouncer 1.18.
    for user in ("pgbouncer", "postgres", "nobody_at_all", database["login"]):
        assert login("SHOW CONFIG", user=user, name="pgbouncer").rc
    assert login("SELECT 1").stdout.strip() == "1"
    assert host.service("pgbouncer").systemd_properties["MainPID"] == before


@pytest.mark.once
def test_only_root_and_pgbouncer_read_the_password_of_the_auth_user(host):
    users = host.file("/etc/pgbouncer/userlist.txt")
    assert (users.user, users.group, users.mode) == ("root", "postgres", 0o640)


@pytest.mark.once
@pytest.mark.disruptive
def test_one_application_cannot_become_another(host, config, inputs, login, address, database, databases, tls, scripts):
    """CVE-2026-107350 and other ways that a login offers.

    Last, and after test_pgbouncer.py: some attempts wait for a database that does not exist until query_wait_timeout, and take
    the place of clients.
    """
    elsewhere = {"owner": "postgres", "name": "postgres"}
    other = next((entry for entry in databases if entry["owner"] != database["owner"]), elsewhere)
    assert login("SELECT 1").stdout.strip() == "1"
    # With the application's password, and with the best one that could leak: that of the only user in auth_file.
    asker = inputs["pgbouncer_auth_user"]
    passwords = {
        database["owner"]: f"head -1 {PASSFILE} | cut -d: -f5-",
        asker: f'sed -n \'s/^"{asker}" "\\(.*\\)"$/\\1/p\' /etc/pgbouncer/userlist.txt',
    }
    for known, password in passwords.items():
        for target in (other["owner"], "postgres" if known == asker else asker):
            theirs = other["name"] if target == other["owner"] else database["name"]
            arguments = f"{address} {config['listen_port']} {known} {database['name']} {target} {theirs}"
            result = host.run(f"{password} | {tls} timeout 300 python3 {scripts}/impostor.py {arguments}")
            assert result.rc == 0, result.stderr
            outcomes = json.loads(result.stdout)
            own = f"became {known}@{database['name']}"
            assert len(outcomes) > 20 and own in outcomes.values(), outcomes
            # It may become itself, in the application's database; PgBouncer's user may enter any.
            allowed = {own, f"became {known}@{theirs}"} if known == asker else {own}
            impostors = {
                attempt: outcome
                for attempt, outcome in outcomes.items()
                if not outcome.startswith("refused") and outcome not in allowed
            }
            assert impostors == {}, json.dumps(outcomes, indent=1)
