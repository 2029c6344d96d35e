"""Attempts that must fail, tried on the fleet as built. Each is refused for the right reason, while a valid control gets in.

The answers are kept in build/intruders.json and build/intruders.html.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from authority import unknown_authority
from intrusion import OTHER, PKI, attempt, listener, other_application, run_on, superuser, tls_of, user_without_permissions

from lab.exposure.intruders import WRONG_THINGS, Answer, Book
from lab.machine import REPOSITORY

pytestmark = pytest.mark.disruptive

SILENCE = "timed out|No route to host|Permission denied|Operation not permitted|unreachable"


@pytest.fixture(scope="module")
def book() -> Iterator[Book]:
    """The record of all attempts, written at the end."""
    record = Book()
    yield record
    record.write(REPOSITORY / "build")


def test_nobody_can_log_in_as_guest(book, amqp_login, worker, broker):
    wrong = amqp_login(user="guest", password="guest", vhost="/")
    book.refused("guest login", "guest, guest", (worker.name, broker.name), wrong, amqp_login(), "ACCESS_REFUSED|403")


def test_plain_text_amqp_is_refused_on_the_current_and_the_old_port(book, amqp_login, worker, broker):
    ends = (worker.name, broker.name)
    # A TLS listener hangs up, because the first bytes are no handshake.
    book.refused("plaintext AMQP", "on the TLS port", ends, amqp_login(tls=None), amqp_login(), "no AMQP|hung up|reset|alert")
    wrong = amqp_login(tls=None, port=5672)
    book.refused("plaintext AMQP", "on port 5672", ends, wrong, amqp_login(), f"Connection refused|{SILENCE}")


def test_an_expired_database_user_is_refused_by_pgbouncer(book, psql, through_bouncer, worker, database, role):
    where = through_bouncer(worker.application)
    superuser(database, f"ALTER ROLE \"{role}\" VALID UNTIL '2001-01-01'")
    try:
        wrong = psql(where)
    finally:
        superuser(database, f"ALTER ROLE \"{role}\" VALID UNTIL 'infinity'")
    how, ends = "the application's role and password, after the role has expired", (worker.name, "its PgBouncer")
    why = "no such user|authentication failed|password authentication|expired"
    book.refused("expired database user through PgBouncer", how, ends, wrong, psql(where), why)


def test_a_certificate_of_another_authority_is_refused_at_both_ends(book, amqp_login, authority, tls, worker, broker, tmp_path):
    other, ends = unknown_authority(tmp_path / "unknown"), (worker.name, broker.name)
    wrong = amqp_login(tls=tls_of(authority, other.issue(worker.name)))
    book.refused(
        "wrong CA", "a client of an unknown authority", ends, wrong, amqp_login(), "unknown ca|bad certificate|alert|reset"
    )
    wrong = amqp_login(tls=tls | {"authorities": other.bundle})
    how = "a broker that the client does not trust"
    book.refused("wrong CA", how, ends, wrong, amqp_login(), "certificate verify failed")


def test_an_expired_certificate_is_refused(book, amqp_login, authority, worker, broker):
    wrong = amqp_login(tls=tls_of(authority, authority.issue(worker.name, days=1, ago_days=3)))
    how, why = "a client of the fleet's authority, expired two days ago", "expired|alert|reset"
    book.refused("expired certificate", how, (worker.name, broker.name), wrong, amqp_login(), why)


def test_a_worker_reaches_the_database_only_through_its_pgbouncer(book, psql, through_bouncer, worker, database, role):
    """With everything that a worker's process can read: its application's password and certificate."""
    whole = f"host={database.address} port=5432 user={role} dbname={worker.application}"
    verified = f"sslmode=verify-full sslrootcert={PKI}/authorities.pem"
    identity = f"sslcert={PKI}/application/certificate.pem sslkey={PKI}/application/key.pem"
    for how, where in {
        "password and the application's certificate": f"{whole} {verified} {identity}",
        "password alone": f"{whole} {verified} sslcert=/nonexistent",
        "password in the clear": f"{whole} sslmode=disable",
    }.items():
        why = f"{SILENCE}|valid client certificate|no pg_hba.conf entry|Connection refused|timeout expired"
        ends = (f"{worker.name}, a worker's process", database.name)
        book.refused("database from a worker directly", how, ends, psql(where), psql(through_bouncer(worker.application)), why)


def test_the_broker_does_not_answer_outside_the_fleet(book, points, amqps, worker, broker):
    wrong, right = (attempt(points[name], "connect", **amqps) for name in ("outside", worker.name))
    book.refused("broker from outside", f"TCP to port {amqps['port']}", ("outside", broker.name), wrong, right, SILENCE)
    for port in (4369, 25672):
        wrong = attempt(points["outside"], "connect", address=broker.address, port=port)
        book.refused("broker from outside", f"TCP to port {port}", ("outside", broker.name), wrong, right, SILENCE)


def test_a_management_interface_would_not_be_reachable_from_outside(book, points, broker):
    """The broker has none. If somebody enables it, the firewall must close it: another listener takes its place here."""
    wrong = attempt(points["outside"], "connect", address=broker.address, port=15672)
    with listener(points[broker.name], 15672):
        open_port = attempt(points["outside"], "connect", address=broker.address, port=15672)
        right = attempt(points[broker.name], "connect", address=broker.address, port=15672)
    ends, name = ("outside", broker.name), "management interface from outside"
    book.refused(name, "port 15672", ends, wrong, right, f"{SILENCE}|Connection refused")
    book.refused(name, "port 15672, with something listening on every address", ends, open_port, right, SILENCE)


def test_a_worker_process_reads_only_its_secrets(book, worker, worker_inputs, vault):
    name, user = "a worker's process reading a secret that it does not need", worker_inputs["application_user"]
    ends = (f"{worker.name}, a worker's process", worker.name)
    kinds = ("vault_rabbitmq_user_passwords", "vault_postgresql_role_passwords", "vault_application_tokens")
    foreign = [
        value for key, value in vault.items() if not any(f"{key}.".startswith(f"{kind}.{worker.application}.") for kind in kinds)
    ]
    own = [worker_inputs["application_broker_password"], worker_inputs["application_database_password"]]
    assert len(foreign) > 1 and not set(own) & set(foreign), sorted(vault)

    def search(patterns: list[str], shell: str) -> Answer:
        """Finding a value counts as getting in. The answer names places, not values."""
        script = f'found=$({shell}); [ -n "$found" ] && echo "$found"'
        answer = run_on(worker, f"cd /; runuser -u {user} -- sh -c {shlex.quote(script)}", stdin="\n".join(patterns) + "\n")
        return answer if answer.got_in else Answer(False, answer.said or "nothing found")

    files = "grep -rlsFf - /etc /opt /var /run /srv /home /root /usr/local /tmp"
    right, how = search(own, files), f"looking for {len(foreign)} values of the vault in"
    book.refused(name, f"{how} every file", ends, search(foreign, files), right, "nothing found")
    # The values come through a pipe, so the search itself shows none.
    processes = "cat | { exec 3<&0; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null </dev/null | tr '\\0' '\\n'"
    processes += " | grep -oFf /dev/fd/3 | wc -l | grep -v '^0$'; }"
    wrong = search(foreign, processes)
    book.refused(name, f"{how} every process's environment and command line", ends, wrong, right, "nothing found")

    # Keys are not in the vault: they are generated on the host, one per service.
    readable = run_on(worker, f"runuser -u {user} -- cat {PKI}/application/key.pem > /dev/null && echo 'its key'")
    keys = worker.run(
        ["sh", "-c", f"ls -d {PKI}/*/key.pem /etc/ssh/ssh_host_*_key /etc/shadow /etc/pgbouncer/userlist.txt"]
    ).split()
    others = [path for path in keys if path not in {f"{PKI}/{identity}/key.pem" for identity in ("application", "producer")}]
    assert len(others) > 3, keys
    for path in others:
        wrong = run_on(worker, f"runuser -u {user} -- cat {path} > /dev/null")
        book.refused(name, path, ends, wrong, readable, "Permission denied")


def test_an_application_enters_only_its_virtual_host_and_database(
    book, amqp_login, psql, through_bouncer, worker, broker, database, login, role
):
    name = "one application's user in another's virtual host or database"
    whole = f"host={database.address} port=5432 user={role} sslmode=verify-full sslrootcert={PKI}/authorities.pem"
    whole += f" sslcert={PKI}/pgbouncer/certificate.pem sslkey={PKI}/pgbouncer/key.pem"
    with other_application(broker, database):
        for vhost in (OTHER, "/"):
            how, wrong = f"{login['user']} in the virtual host {vhost}", amqp_login(vhost=vhost)
            book.refused(
                name, how, (worker.name, broker.name), wrong, amqp_login(), "NOT_ALLOWED|ACCESS_REFUSED|not found|refused"
            )
        # PgBouncer 1.18 does not report that the database does not exist.
        why = "no such database|authentication failed|not allowed|pg_hba|permission denied|does not exist"
        for other in (OTHER, "postgres"):
            how = f"{role} in the database {other}"
            wrong, right = (psql(through_bouncer(which)) for which in (other, worker.application))
            book.refused(name, how, (worker.name, "its PgBouncer"), wrong, right, why)
            # With the certificate of PgBouncer, as an intruder in PgBouncer could.
            wrong, right = (psql(f"{whole} dbname={which}", user="postgres") for which in (other, worker.application))
            book.refused(name, f"{how}, with PgBouncer's certificate", (worker.name, database.name), wrong, right, why)


def test_a_user_without_permission_cannot_publish(book, amqp_login, worker, broker, login):
    name, ends = "a message from a publisher without permission", (worker.name, broker.name)
    # To a queue that does not exist, so no message of the test reaches a worker.
    nowhere = "intruder-nowhere"
    right = amqp_login(publish_to=nowhere)
    with user_without_permissions(broker, login["vhost"]) as unprivileged:
        assert amqp_login(**unprivileged).got_in, "the user must log in before it can be refused as a publisher"
        wrong = amqp_login(**unprivileged, publish_to=nowhere)
    book.refused(name, "a user that can only log in", ends, wrong, right, "ACCESS_REFUSED|403")


def test_no_host_can_connect_to_an_undeclared_address(book, points, worker, broker, database):
    name = "egress to an undeclared address"
    with listener(points["outside"], 443):
        where = {"address": points["outside"].address, "port": 443}
        right = attempt(points["controller"], "connect", **where)
        for host in (worker, broker, database):
            wrong = attempt(points[host.name], "connect", **where)
            book.refused(name, "TCP to port 443, as root", (host.name, "outside"), wrong, right, f"{SILENCE}|Connection refused")


def test_every_kind_of_attempt_was_made(book):
    assert {row.tried for row in book.rows} == set(WRONG_THINGS)
