"""What role application promises, asked of the host."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://newsroom"]

SECRETS = ("celeryconfig.py", "pg_service.conf", "environment")


def test_the_current_release_stands_whole(host):
    current = host.check_output("readlink /opt/newsroom/current")
    assert host.file(f"{current}/.ready").exists
    assert host.run(f"{current}/venv/bin/python -c 'import celery, psycopg'").rc == 0


def test_the_release_is_not_its_own_users_to_change(host):
    probe = "test -w /opt/newsroom/current/src || test -w /opt/newsroom/current/venv"
    assert host.run(f"runuser -u www-data -- sh -c '{probe}'").rc == 1


@pytest.mark.parametrize("name", SECRETS)
def test_nobody_else_reads_the_secrets(host, name):
    path = f"/etc/newsroom/{name}"
    assert host.run(f"runuser -u www-data -- cat {path}").rc == 0
    assert host.run(f"runuser -u nobody -- cat {path}").rc != 0


def test_no_secret_stands_in_a_process_list(host):
    secrets = host.check_output("grep -ohE '[0-9a-f]{64}' /etc/newsroom/celeryconfig.py /etc/newsroom/pg_service.conf").split()
    assert secrets
    listing = host.check_output("ps -eo args")
    assert not [secret for secret in secrets if secret in listing]


def test_the_programs_reach_their_database_through_pgbouncer(host):
    ask = 'import psycopg; print(psycopg.connect("").execute("select current_user, current_database()").fetchone())'
    said = host.run(f"runuser -u www-data -- /opt/newsroom/current/run python -c '{ask}'")
    assert said.stdout.strip() == "('newsroom', 'newsroom')", said.stderr
