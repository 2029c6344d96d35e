"""Wrong things, really tried on the fleet as built. Each is refused, says why, and beside it the right one gets in.

What each was told is kept in build/intruders.json and build/intruders.html.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from authority import stranger as unknown_authority
from point_attempts import attempt, listener

from lab.demo.fleet import Fleet, Host
from lab.exposure import capture
from lab.exposure.intruders import WRONG_THINGS, Answer, Book
from lab.exposure.points import Point, controller, host_points, stranger
from lab.machine import REPOSITORY, Refusal

pytestmark = pytest.mark.disruptive

PKI = "/etc/grunnfjell/pki"
SILENCE = "timed out|No route to host|Permission denied|Operation not permitted|unreachable"
PASSFILE = "/run/grunnfjell-intruder-pgpass"
OTHER = "intruder_other"  # somebody else's virtual host and database


@pytest.fixture(scope="module")
def book() -> Iterator[Book]:
    kept = Book()
    yield kept
    kept.write(REPOSITORY / "build")


@pytest.fixture(scope="module")
def points(site: Fleet) -> Iterator[dict[str, Point]]:
    inside = host_points({host.name: host.address for host in site.hosts})
    with stranger() as outside:
        yield {point.name: point for point in (*inside, controller(), outside)}


@pytest.fixture(scope="module")
def worker(site: Fleet) -> Host:
    return site.group("celery_workers")[0]


@pytest.fixture(scope="module")
def broker(site: Fleet) -> Host:
    return site.group("rabbitmq")[0]


@pytest.fixture(scope="module")
def database(site: Fleet) -> Host:
    return site.group("postgresql")[0]


@pytest.fixture(scope="module")
def vault(request) -> dict[str, str]:
    return capture.vault(request.config.option.ansible_inventory)


@pytest.fixture(scope="module")
def given(worker: Host, fleet_inputs) -> dict[str, Any]:
    """What the inventory says of the worker's host."""
    return fleet_inputs[worker.name]


@pytest.fixture(scope="module")
def login(given) -> dict[str, str]:
    """How the application's programs log in to the broker."""
    user = given.get("application_broker_user") or given["application_name"]
    return {"user": user, "password": given["application_broker_password"], "vhost": given["application_name"]}


@pytest.fixture(scope="module")
def amqps(broker: Host, fleet_inputs) -> dict[str, object]:
    address, _, port = fleet_inputs[broker.name]["rabbitmq_listeners_ssl"][0].rpartition(":")
    return {"address": address, "port": int(port)}


@pytest.fixture(scope="module")
def tls(authority, worker: Host) -> dict[str, str]:
    """What a client of the fleet shows and believes."""
    return shown(authority, authority.issue(worker.name))


def shown(believed, identity: tuple[str, str]) -> dict[str, str]:
    return {"authorities": believed.bundle, "certificate": identity[0], "key": identity[1]}


@pytest.fixture(scope="module")
def by_amqp(points, worker, amqps, tls, login) -> Callable[..., Answer]:
    """From the worker's host by AMQP as its programs do, but for what is said to differ."""

    def run(**other: object) -> Answer:
        return attempt(points[worker.name], "amqp", **(amqps | login | {"tls": tls} | other))

    return run


def ask(host: Host, command: str, stdin: str = "") -> Answer:
    """What a command on a host, which ends in failure if it is refused, says."""
    try:
        return Answer(True, host.run(["sh", "-c", command], stdin=stdin).strip() or "no error")
    except Refusal as refusal:
        # The first line repeats the command.
        return Answer(False, " ".join(str(refusal).splitlines()[1:]).strip())


@pytest.fixture(scope="module")
def role(given) -> str:
    """As whom the application's programs log in to the database."""
    return given.get("application_database_user") or given["application_name"]


@pytest.fixture(scope="module")
def psql(worker: Host, given) -> Iterator[Callable[..., Answer]]:
    """psql as a worker's process; the password stands in a file of its own, as that process would have it."""
    users = (given["application_user"], "postgres")
    for user in users:
        content = f"*:*:*:*:{given['application_database_password']}\n"
        worker.run(["install", "-o", user, "-m", "0600", "/dev/stdin", f"{PASSFILE}-{user}"], stdin=content)

    def run(where: str, user: str = users[0]) -> Answer:
        sql = "SELECT current_user || ' in ' || current_database()"
        command = f"env PGPASSFILE={PASSFILE}-{user} PGCONNECT_TIMEOUT=6 psql -XqAtw {shlex.quote(where)} -c {shlex.quote(sql)}"
        return ask(worker, f"cd /; runuser -u {user} -- {command}")

    yield run
    worker.run(["rm", "-f", *(f"{PASSFILE}-{user}" for user in users)])


@pytest.fixture(scope="module")
def through_bouncer(given, role: str) -> Callable[[str], str]:
    """How a worker's process names a database to its PgBouncer."""
    place = f"host={given['application_database_host']} port={given['application_database_port']}"
    return lambda name: f"{place} user={role} dbname={name} sslmode=prefer"


def test_nobody_logs_in_as_guest(book, by_amqp, worker, broker):
    wrong = by_amqp(user="guest", password="guest", vhost="/")
    book.refused("guest login", "guest, guest", (worker.name, broker.name), wrong, by_amqp(), "ACCESS_REFUSED|403")


def test_plaintext_amqp_is_refused_on_the_brokers_port_and_on_its_old_one(book, by_amqp, worker, broker):
    ends = (worker.name, broker.name)
    # The listener of TLS takes the first bytes for no handshake, and hangs up.
    book.refused("plaintext AMQP", "on the TLS port", ends, by_amqp(tls=None), by_amqp(), "no AMQP|hung up|reset|alert")
    wrong = by_amqp(tls=None, port=5672)
    book.refused("plaintext AMQP", "on port 5672", ends, wrong, by_amqp(), f"Connection refused|{SILENCE}")


def test_an_expired_database_user_is_refused_by_pgbouncer(book, psql, through_bouncer, worker, database, role):
    where = through_bouncer(worker.application)

    def until(moment: str) -> None:
        sql = f"ALTER ROLE \"{role}\" VALID UNTIL '{moment}'"
        database.run(["runuser", "-u", "postgres", "--", "psql", "-XqAt", "-d", "postgres", "-c", sql])

    until("2001-01-01")
    try:
        wrong = psql(where)
    finally:
        until("infinity")
    how, ends = "the application's own role and password, after the role's last day", (worker.name, "its PgBouncer")
    why = "no such user|authentication failed|password authentication|expired"
    book.refused("expired database user through PgBouncer", how, ends, wrong, psql(where), why)


def test_whoever_shows_or_is_shown_a_certificate_of_another_authority_goes_no_further(
    book, by_amqp, authority, tls, worker, broker, tmp_path
):
    other, ends = unknown_authority(tmp_path / "unknown"), (worker.name, broker.name)
    wrong = by_amqp(tls=shown(authority, other.issue(worker.name)))
    book.refused("wrong CA", "a client of an unknown authority", ends, wrong, by_amqp(), "unknown ca|bad certificate|alert|reset")
    wrong = by_amqp(tls=tls | {"authorities": other.bundle})
    how = "a broker that the client's authority does not know"
    book.refused("wrong CA", how, ends, wrong, by_amqp(), "certificate verify failed")


def test_a_certificate_that_ran_out_opens_nothing(book, by_amqp, authority, worker, broker):
    wrong = by_amqp(tls=shown(authority, authority.issue(worker.name, days=1, ago_days=3)))
    how, why = "a client's, of the fleet's own authority, two days over", "expired|alert|reset"
    book.refused("expired certificate", how, (worker.name, broker.name), wrong, by_amqp(), why)


def test_a_worker_reaches_the_database_through_its_pgbouncer_only(book, psql, through_bouncer, worker, database, role):
    """With all that a worker's process can read: its application's password and certificate."""
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


def test_the_broker_answers_nobody_outside(book, points, amqps, worker, broker):
    wrong, right = (attempt(points[name], "connect", **amqps) for name in ("outside", worker.name))
    book.refused("broker from outside", f"TCP to port {amqps['port']}", ("outside", broker.name), wrong, right, SILENCE)
    for port in (4369, 25672):
        wrong = attempt(points["outside"], "connect", address=broker.address, port=port)
        book.refused("broker from outside", f"TCP to port {port}", ("outside", broker.name), wrong, right, SILENCE)


def test_a_management_interface_would_be_seen_by_nobody_outside(book, points, broker):
    """The broker has none. Should somebody enable it, it still is for nobody outside: here something listens in its place."""
    wrong = attempt(points["outside"], "connect", address=broker.address, port=15672)
    with listener(points[broker.name], 15672):
        listened = attempt(points["outside"], "connect", address=broker.address, port=15672)
        right = attempt(points[broker.name], "connect", address=broker.address, port=15672)
    ends, name = ("outside", broker.name), "management interface from outside"
    book.refused(name, "port 15672 as it is", ends, wrong, right, f"{SILENCE}|Connection refused")
    book.refused(name, "port 15672, with something listening on every address", ends, listened, right, SILENCE)


def test_a_workers_process_reads_its_own_secrets_and_no_others(book, worker, given, vault):
    name, user = "a worker's process reading a secret that it does not need", given["application_user"]
    ends = (f"{worker.name}, a worker's process", worker.name)
    kinds = ("vault_rabbitmq_user_passwords", "vault_postgresql_role_passwords", "vault_application_tokens")
    foreign = [
        value for key, value in vault.items() if not any(f"{key}.".startswith(f"{kind}.{worker.application}.") for kind in kinds)
    ]
    own = [given["application_broker_password"], given["application_database_password"]]
    assert len(foreign) > 1 and not set(own) & set(foreign), sorted(vault)

    def search(patterns: list[str], shell: str) -> Answer:
        """Whoever finds a value gets in; the answer names places, not values."""
        script = f'found=$({shell}); [ -n "$found" ] && echo "$found"'
        found = ask(worker, f"cd /; runuser -u {user} -- sh -c {shlex.quote(script)}", stdin="\n".join(patterns) + "\n")
        return found if found.got_in else Answer(False, found.said or "nothing found")

    files = "grep -rlsFf - /etc /opt /var /run /srv /home /root /usr/local /tmp"
    right, found = search(own, files), f"looking for {len(foreign)} values of the vault in"
    book.refused(name, f"{found} every file", ends, search(foreign, files), right, "nothing found")
    # The values come by a pipe, so that the search itself shows none.
    processes = "cat | { exec 3<&0; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null </dev/null | tr '\\0' '\\n'"
    processes += " | grep -oFf /dev/fd/3 | wc -l | grep -v '^0$'; }"
    wrong = search(foreign, processes)
    book.refused(name, f"{found} every process's environment and command line", ends, wrong, right, "nothing found")

    # Keys are in no vault: they are made on the host, each for one service.
    readable = ask(worker, f"runuser -u {user} -- cat {PKI}/application/key.pem > /dev/null && echo 'its own key'")
    keys = worker.run(
        ["sh", "-c", f"ls -d {PKI}/*/key.pem /etc/ssh/ssh_host_*_key /etc/shadow /etc/pgbouncer/userlist.txt"]
    ).split()
    others = [path for path in keys if path not in {f"{PKI}/{mine}/key.pem" for mine in ("application", "producer")}]
    assert len(others) > 3, keys
    for path in others:
        wrong = ask(worker, f"runuser -u {user} -- cat {path} > /dev/null")
        book.refused(name, path, ends, wrong, readable, "Permission denied")


@contextmanager
def somebody_elses(broker: Host, database: Host) -> Iterator[None]:
    """A virtual host and a database of another application, for as long as the block lasts."""

    def sql(statement: str) -> None:
        database.run(["runuser", "-u", "postgres", "--", "psql", "-XqAt", "-d", "postgres", "-c", statement])

    broker.run(["rabbitmqctl", "-q", "add_vhost", OTHER])
    try:
        sql(f"CREATE DATABASE {OTHER}")
        yield
    finally:
        broker.run(["rabbitmqctl", "-q", "delete_vhost", OTHER])
        sql(f"DROP DATABASE IF EXISTS {OTHER}")


def test_an_application_enters_no_virtual_host_or_database_but_its_own(
    book, by_amqp, psql, through_bouncer, worker, broker, database, login, role
):
    name = "one application's user in another's virtual host or database"
    whole = f"host={database.address} port=5432 user={role} sslmode=verify-full sslrootcert={PKI}/authorities.pem"
    whole += f" sslcert={PKI}/pgbouncer/certificate.pem sslkey={PKI}/pgbouncer/key.pem"
    with somebody_elses(broker, database):
        for vhost in (OTHER, "/"):
            how, wrong = f"{login['user']} in the virtual host {vhost}", by_amqp(vhost=vhost)
            book.refused(name, how, (worker.name, broker.name), wrong, by_amqp(), "NOT_ALLOWED|ACCESS_REFUSED|not found|refused")
        # PgBouncer 1.18 does not say that it is the database which is not there.
        why = "no such database|authentication failed|not allowed|pg_hba|permission denied|does not exist"
        for other in (OTHER, "postgres"):
            how = f"{role} in the database {other}"
            wrong, right = (psql(through_bouncer(which)) for which in (other, worker.application))
            book.refused(name, how, (worker.name, "its PgBouncer"), wrong, right, why)
            # As PgBouncer itself, with its certificate, whoever came to be that.
            wrong, right = (psql(f"{whole} dbname={which}", user="postgres") for which in (other, worker.application))
            book.refused(name, f"{how}, with PgBouncer's own certificate", (worker.name, database.name), wrong, right, why)


@contextmanager
def user_without_permissions(broker: Host, vhost: str) -> Iterator[dict[str, str]]:
    user, password, salt = "intruder", secrets.token_hex(16), secrets.token_bytes(4)
    digest = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    nothing = {"vhost": vhost, "user": user, "configure": "", "write": "", "read": ""}
    told = {"users": [{"name": user, "password_hash": digest, "tags": ""}], "permissions": [nothing]}
    # A file, since rabbitmqctl would have the password in its command line.
    file = "/run/grunnfjell-intruder.json"
    broker.run(["install", "-g", "rabbitmq", "-m", "0640", "/dev/stdin", file], stdin=json.dumps(told))
    try:
        broker.run(["rabbitmqctl", "-q", "import_definitions", file])
        yield {"user": user, "password": password}
    finally:
        broker.run(["rabbitmqctl", "-q", "delete_user", user])
        broker.run(["rm", "-f", file])


def test_whoever_may_not_publish_puts_nothing_into_a_queue(book, by_amqp, worker, broker, login):
    name, ends = "a message from a publisher without permission", (worker.name, broker.name)
    # A queue that does not exist takes the right one's message away: nothing of the test reaches a worker.
    nowhere = "intruder-nowhere"
    right = by_amqp(publish_to=nowhere)
    with user_without_permissions(broker, login["vhost"]) as somebody:
        assert by_amqp(**somebody).got_in, "somebody has to be logged in to be refused as a publisher"
        wrong = by_amqp(**somebody, publish_to=nowhere)
    book.refused(name, "a user that may log in and no more", ends, wrong, right, "ACCESS_REFUSED|403")


def test_nothing_leaves_for_an_address_that_is_not_declared(book, points, worker, broker, database):
    name = "egress to an undeclared address"
    with listener(points["outside"], 443):
        where = {"address": points["outside"].address, "port": 443}
        right = attempt(points["controller"], "connect", **where)
        for host in (worker, broker, database):
            wrong = attempt(points[host.name], "connect", **where)
            book.refused(name, "TCP to port 443, as root", (host.name, "outside"), wrong, right, f"{SILENCE}|Connection refused")


def test_every_wrong_thing_was_tried(book):
    assert {row.tried for row in book.rows} == set(WRONG_THINGS)
