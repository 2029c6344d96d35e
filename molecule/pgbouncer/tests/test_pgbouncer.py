"""What role pgbouncer promises, asked of the running service."""

from __future__ import annotations

import csv
import io
import ipaddress
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from superuser import PSQL

testinfra_hosts = ["ansible://pgbouncer"]

PASSFILE = "/run/grunnfjell-test-pgpass"
INPUTS = [
    "auth_query",
    "client_tls_sslmode",
    "default_pool_size",
    "listen_addr",
    "listen_port",
    "max_client_conn",
    "max_db_connections",
    "pool_mode",
    "query_wait_timeout",
    "reserve_pool_size",
    "server_login_retry",
    "server_tls_sslmode",
]


@pytest.fixture(scope="module")
def console(host):
    """Rows that the administrator's console answers, as the system user that needs no password."""

    def setting(key: str) -> str:
        return host.check_output(f"sed -n 's/^{key} = //p' /etc/pgbouncer/pgbouncer.ini")

    def run(command: str) -> list[dict[str, str]]:
        psql = f"psql -Xq --csv -h {setting('unix_socket_dir')} -p {setting('listen_port')} -U pgbouncer -d pgbouncer"
        done = host.run(f"runuser -u postgres -- {psql} -c {shlex.quote(command)}")
        assert done.rc == 0, done.stderr + host.run("journalctl --no-pager -n 20 -u pgbouncer").stdout
        return list(csv.DictReader(io.StringIO(done.stdout)))

    return run


@pytest.fixture(scope="module")
def config(console):
    return {row["key"]: row["value"] for row in console("SHOW CONFIG")}


@pytest.fixture(scope="session")
def evaluated() -> dict[str, Any]:
    return {}


@pytest.fixture(scope="module")
def evaluate(host, evaluated):
    """A Jinja expression over the fleet's variables, as Ansible sees them; each once, since every host sees the same fleet."""

    def run(expression: str):
        if expression not in evaluated:
            said = host.ansible("debug", f"msg={{{{ {expression} }}}}", check=False)["msg"]
            evaluated[expression] = json.loads(json.dumps(said))
        return evaluated[expression]

    return run


@pytest.fixture(scope="module")
def held(evaluate) -> list[dict]:
    """The databases that PostgreSQL holds."""
    return evaluate("hostvars[groups['postgresql'][0]]['postgresql_databases']")


@pytest.fixture(scope="module")
def database(evaluate, held, inputs) -> dict:
    """One that this bouncer serves by its own name, with the login of its owner that has the turn."""
    found = next(each for each in held if each["name"] in inputs["pgbouncer_databases"])
    roles = evaluate("hostvars[groups['postgresql'][0]]['postgresql_roles']")
    turns = [role["name"] for role in roles if found["owner"] in (role["name"], role.get("acts_as")) and role.get("login", True)]
    return {**found, "login": turns[0]}


PKI = "/etc/grunnfjell/pki"
# How a client of a bouncer beyond loopback goes there: it verifies, and shows a certificate. Root may read this one.
AS_CLIENT = {
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": f"{PKI}/authorities.pem",
    "PGSSLCERT": f"{PKI}/pgbouncer/certificate.pem",
    "PGSSLKEY": f"{PKI}/pgbouncer/key.pem",
}


@pytest.fixture(scope="module")
def postgresql_here(host, inputs, database):
    """SQL as the superuser, where PostgreSQL is this host's own."""
    if not host.run(f"ip -o addr show to {inputs['pgbouncer_databases'][database['name']]['host']}").stdout:
        pytest.skip("PostgreSQL is on another host")
    return lambda sql: host.check_output(f"{PSQL} -d postgres -c {shlex.quote(sql)}")


@pytest.fixture(scope="module")
def tls(config) -> str:
    """The environment of a client, for a shell."""
    near = config["client_tls_sslmode"] == "disable"
    return " ".join(f"{name}={value}" for name, value in ({"PGSSLMODE": "disable"} if near else AS_CLIENT).items())


@pytest.fixture(scope="module")
def login(host, config, database, tls):
    """psql through PgBouncer as the application logs in. The password goes from the inventory into a file."""
    password = f"hostvars[groups['postgresql'][0]]['postgresql_role_passwords']['{database['login']}']"
    host.ansible("copy", f"dest={PASSFILE} mode=0600 content='*:*:*:*:{{{{ {password} }}}}\n'", check=False)
    address = config["listen_addr"].split(",")[0].strip()

    def run(
        sql: str, user: str = database["login"], name: str = database["name"], passfile: str = PASSFILE, environment: str = ""
    ):
        where = f"-h {address} -p {config['listen_port']} -U {user} -d {name}"
        return host.run(
            f"PGPASSFILE={passfile} PGCONNECT_TIMEOUT=10 {environment or tls} psql -XqAtw {where} -c {shlex.quote(sql)}"
        )

    yield run
    host.check_output(f"rm -f {PASSFILE} {PASSFILE}-wrong")


def test_the_service_runs_and_comes_back_at_boot_and_after_a_crash(host):
    service = host.service("pgbouncer")
    assert service.is_running and service.is_enabled, host.run("journalctl --no-pager -n 20 -u pgbouncer").stdout
    assert service.systemd_properties["Restart"] == "on-failure"


def test_it_listens_on_loopback_or_private_addresses_only(host, config):
    listening = host.check_output(f"ss -ltnH 'sport = :{config['listen_port']}' | awk '{{print $4}}'").split()
    assert listening, host.run("ss -ltnp").stdout
    for item in listening:
        address = ipaddress.ip_address(item.rpartition(":")[0].strip("[]"))
        assert address.is_private and not address.is_unspecified, item


@pytest.mark.once
def test_debians_socket_unit_cannot_open_all_addresses(host):
    assert host.run("systemctl is-enabled pgbouncer.socket").stdout.strip() == "masked"
    assert not host.service("pgbouncer.socket").is_running


def test_the_running_configuration_is_that_of_the_inventory(config, inputs):
    for key in INPUTS:
        wanted = inputs[f"pgbouncer_{key}"]
        assert (", ".join(wanted) if isinstance(wanted, list) else str(wanted)) == config[key], key


def test_the_databases_are_those_declared_and_no_other(console, inputs):
    declared = {name: database.get("dbname", name) for name, database in inputs["pgbouncer_databases"].items()}
    # What was asked for and is not declared stands there for a while, and leads nowhere.
    rows = [row for row in console("SHOW DATABASES") if row["name"] != "pgbouncer" and row["host"] != "/nonexistent"]
    assert {row["name"]: row["database"] for row in rows} == declared


@pytest.mark.disruptive
@pytest.mark.once
def test_a_database_that_is_not_declared_leads_nowhere(login):
    assert login("SELECT 1", name="postgres").rc


@pytest.mark.disruptive
@pytest.mark.once
def test_a_database_leads_to_postgresql_by_transactions(console, login, database):
    assert login("SELECT 1").stdout.strip() == "1"
    (row,) = [row for row in console("SHOW DATABASES") if row["name"] == database["name"]]
    assert row["database"] == database["name"] and row["pool_mode"] in ("", "transaction")


@pytest.mark.disruptive
def test_an_application_logs_in_and_works(login, database):
    done = login("SELECT current_user, current_database()")
    assert done.stdout.strip() == f"{database['owner']}|{database['name']}", done.stderr


OWN_SESSION = "SELECT version, client_dn, client_serial FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid()"


def serial_of(host, identity: str) -> int:
    return int(host.check_output(f"openssl x509 -noout -serial -in {identity}/certificate.pem").partition("=")[2], 16)


@pytest.mark.disruptive
@pytest.mark.once
def test_the_way_to_postgresql_is_encrypted_and_shows_who_comes(host, login):
    done = login(OWN_SESSION)
    version, name, serial = done.stdout.strip().split("|")
    assert version == "TLSv1.3" and name.endswith(f"/CN={host.backend.get_hostname()}"), done.stdout
    assert int(serial) == serial_of(host, f"{PKI}/pgbouncer")


@pytest.mark.disruptive
@pytest.mark.once
@pytest.mark.parametrize(
    ("way", "why"),
    [("PGSSLMODE=disable", "no encryption"), ("PGSSLMODE=require PGSSLCERT=/nonexistent", "valid client certificate")],
)
def test_past_pgbouncer_a_password_alone_opens_nothing(host, login, inputs, database, way, why):
    """PostgreSQL itself, from a host that may come: neither as plain text nor without a certificate.

    As the account that PgBouncer runs as: where there is a firewall, it lets no other out to PostgreSQL.
    """
    target = inputs["pgbouncer_databases"][database["name"]]
    where = f"-h {target['host']} -p {target['port']} -U {database['login']} -d {database['name']}"
    passfile = f"{PASSFILE}-postgres"
    host.check_output(f"install -o postgres -g postgres -m 0600 {PASSFILE} {passfile}")

    def ask(environment: str):
        settings = f"PGPASSFILE={passfile} PGCONNECT_TIMEOUT=10 {environment}"
        return host.run(f"runuser -u postgres -- env {settings} psql -XqAtw {where} -c 'SELECT 1'")

    try:
        done = ask(way)
        assert done.rc and why in done.stderr, done.stdout + done.stderr
        # The password is the right one: with a certificate it opens the same door.
        done = ask(" ".join(f"{name}={value}" for name, value in AS_CLIENT.items()))
        assert done.stdout.strip() == "1", done.stderr
    finally:
        host.check_output(f"rm -f {passfile}")


@pytest.mark.once
@pytest.mark.disruptive
def test_a_renewed_certificate_is_a_reload_and_no_client_notices(host, console, login):
    """Another certificate of the same authority, put in place and told as role pki does it."""
    identity, renewed = f"{PKI}/pgbouncer", f"{PKI}/.versions/test"
    before, link = host.service("pgbouncer").systemd_properties["MainPID"], host.check_output(f"readlink {identity}")
    (other, *_) = host.check_output(f"cd {PKI} && ls -d application postgresql 2>/dev/null || true").split()
    host.check_output(f"cp -aL {PKI}/{other} {renewed} && chgrp postgres {renewed} {renewed}/*")

    def shown() -> int:
        return int(login(OWN_SESSION).stdout.strip().rpartition("|")[2])

    def turn(target: str) -> None:
        host.check_output(f"ln -sfn {target} {identity} && systemctl reload pgbouncer && sleep 0.5")
        # A connection that stands keeps what it was opened with; new ones have the new certificate.
        console("RECONNECT")

    own, renewal = serial_of(host, identity), serial_of(host, renewed)
    assert shown() == own != renewal
    try:
        turn(renewed)
        assert shown() == renewal
    finally:
        turn(link)
        host.check_output(f"rm -rf {renewed}")
    assert shown() == own
    assert host.service("pgbouncer").systemd_properties["MainPID"] == before


@pytest.mark.once
def test_only_root_and_pgbouncers_group_read_its_key(host):
    key = host.file("/etc/grunnfjell/pki/pgbouncer/key.pem")
    found = host.check_output("stat -L -c '%U %G %a' /etc/grunnfjell/pki/pgbouncer/key.pem")
    assert key.exists and found == "root postgres 640"


@pytest.mark.once
@pytest.mark.disruptive
def test_postgresql_by_another_name_is_not_believed(host, database, postgresql_here):
    """A server that answers at an address which its certificate does not bear is refused before any password is sent."""
    twin = "/run/grunnfjell-test-bouncer"
    # Within the last section: PgBouncer takes one that is said again to begin with its defaults.
    mine = (
        f"listen_addr = 127.0.0.1\nlisten_port = 6599\nclient_tls_sslmode = disable\npidfile = {twin}/pid\n"
        f"logfile = {twin}/log\nunix_socket_dir = {twin}\n"
    )
    host.check_output(f"rm -rf {twin} && install -d -o postgres -g postgres {twin}")
    astray = f"sed 's/host=[^ ]*/host=127.0.0.1/' /etc/pgbouncer/pgbouncer.ini >{twin}/ini"
    host.check_output(f"runuser -u postgres -- sh -c {shlex.quote(astray)}")
    host.check_output(f"printf %s {shlex.quote(mine)} >>{twin}/ini")
    host.check_output(f"runuser -u postgres -- /usr/sbin/pgbouncer -q -d {twin}/ini")
    try:
        name = database["name"]
        done = host.run(
            f"PGPASSWORD=wrong PGCONNECT_TIMEOUT=2 psql -XqAtw -h 127.0.0.1 -p 6599 -U {name} -d {name} -c 'SELECT 1'"
        )
        said = host.file(f"{twin}/log").content_string
        assert done.rc and "not present in server certificate" in said, said + done.stderr
    finally:
        host.run(f"kill $(cat {twin}/pid)")
        host.check_output(f"rm -rf {twin}")


@pytest.mark.disruptive
def test_beyond_loopback_it_speaks_verified_tls_only(config, login):
    addresses = [ipaddress.ip_address(item.strip()) for item in config["listen_addr"].split(",")]
    if all(address.is_loopback for address in addresses):
        assert config["client_tls_sslmode"] == "disable"
        return
    plain = login("SELECT 1", environment="PGSSLMODE=disable")
    assert plain.rc and "SSL required" in plain.stderr, plain.stdout + plain.stderr
    bare = login("SELECT 1", environment=f"PGSSLMODE=verify-full PGSSLROOTCERT={PKI}/authorities.pem PGSSLCERT=/nonexistent")
    assert bare.rc, bare.stdout
    astray = login("SELECT 1", environment="PGSSLMODE=verify-full PGSSLROOTCERT=/etc/ssl/certs/ca-certificates.crt")
    assert astray.rc and "certificate verify failed" in astray.stderr, astray.stdout + astray.stderr


@pytest.mark.disruptive
@pytest.mark.once
def test_a_wrong_password_is_refused(host, login):
    host.check_output(f"install -m 0600 /dev/null {PASSFILE}-wrong && echo '*:*:*:*:wrong' > {PASSFILE}-wrong")
    done = login("SELECT 1", passfile=f"{PASSFILE}-wrong")
    assert done.rc and "SASL authentication failed" in done.stderr, done.stderr


@pytest.mark.disruptive
@pytest.mark.once
@pytest.mark.parametrize("user", ["postgres", "nobody_at_all"])
def test_a_superuser_and_a_stranger_are_refused(login, user):
    done = login("SELECT 1", user=user)
    # The verifier never leaves PostgreSQL, so that PgBouncer knows no such user, or one with a made-up verifier.
    assert done.rc and ("no such user" in done.stderr or "authentication failed" in done.stderr), done.stderr


@pytest.mark.once
@pytest.mark.disruptive
def test_a_role_whose_time_has_run_out_is_refused_with_its_own_password(host, login, database, postgresql_here):
    assert login("SELECT 1").stdout.strip() == "1"
    postgresql_here(f"ALTER ROLE {database['login']} VALID UNTIL '2020-01-01'")
    try:
        done = login("SELECT 1")
        assert done.rc and ("no such user" in done.stderr or "authentication failed" in done.stderr), done.stdout + done.stderr
    finally:
        postgresql_here(f"ALTER ROLE {database['login']} VALID UNTIL 'infinity'")
    assert login("SELECT 1").stdout.strip() == "1"


@pytest.mark.disruptive
@pytest.mark.once
def test_one_application_cannot_enter_the_database_of_another(login, held, database):
    for other in held:
        if other["name"] != database["name"] and database["owner"] not in [other["owner"], *other.get("roles", [])]:
            assert login("SELECT 1", name=other["name"]).rc, f"{database['owner']} entered {other['name']}"


@pytest.mark.once
@pytest.mark.disruptive
def test_a_login_with_an_option_of_no_name_fells_nobody(host, config, login, database):
    """CVE-2026-107349: PgBouncer 1.20 to 1.26 would spin for ever."""
    address = config["listen_addr"].split(",")[0].strip()
    start = f"user\\0{database['login']}\\0database\\0{database['name']}\\0options\\0-c=\\0\\0"
    send = (
        f"import socket,struct; b=b'{start}'; s=socket.create_connection(('{address}',{config['listen_port']}),5); "
        "s.sendall(struct.pack('!II',len(b)+8,196608)+b); s.settimeout(2); print(s.recv(100))"
    )
    host.run(f"timeout 10 python3 -c {shlex.quote(send)}")
    assert login("SELECT 1").stdout.strip() == "1"


@pytest.mark.disruptive
@pytest.mark.once
def test_nobody_reaches_or_fells_the_console_over_the_network(host, login, database):
    before = host.service("pgbouncer").systemd_properties["MainPID"]
    # With a global auth_user each of these would end PgBouncer 1.18.
    for user in ("pgbouncer", "postgres", "nobody_at_all", database["login"]):
        assert login("SHOW CONFIG", user=user, name="pgbouncer").rc
    assert login("SELECT 1").stdout.strip() == "1"
    assert host.service("pgbouncer").systemd_properties["MainPID"] == before


@pytest.mark.once
def test_the_auth_users_password_is_for_pgbouncer_only(host):
    users = host.file("/etc/pgbouncer/userlist.txt")
    assert (users.user, users.group, users.mode) == ("root", "postgres", 0o640)


def test_descriptors_of_the_running_process_carry_clients_and_pools(host, config):
    pid = host.service("pgbouncer").systemd_properties["MainPID"]
    limit = int(host.check_output(f"awk '/^Max open files/ {{print $4}}' /proc/{pid}/limits"))
    wanted = int(config["max_client_conn"]) + int(config["default_pool_size"]) + int(config["reserve_pool_size"])
    assert limit > wanted
    # And so will the next one's, after a reboot or a crash.
    assert int(host.service("pgbouncer").systemd_properties["LimitNOFILE"]) > wanted


@pytest.fixture
def scripts(host) -> Iterator[str]:
    """Where the tests' own programs lie on the host."""
    home = host.check_output("mktemp -d")
    for name in ("postgresql_wire.py", "crowd.py", "impostor.py"):
        source = Path(__file__).with_name(name).read_text(encoding="utf-8")
        host.check_output(f"printf %s {shlex.quote(source)} > {home}/{name}")
    yield home
    host.check_output(f"rm -r {home}")


@pytest.mark.once
@pytest.mark.disruptive
def test_as_many_clients_as_promised_really_work_at_once(host, login, config, database, tls, scripts):
    wanted = int(config["max_client_conn"])
    address = config["listen_addr"].split(",")[0].strip()
    # One more than promised: it is refused in PgBouncer's own words, not by a full table of descriptors.
    arguments = f"{address} {config['listen_port']} {database['login']} {database['name']} {PASSFILE} {wanted + 1}"
    done = host.run(f"{tls} timeout 120 python3 {scripts}/crowd.py {arguments}")
    assert done.rc == 0, done.stderr + host.run("journalctl --no-pager -n 20 -u pgbouncer").stdout
    result = json.loads(done.stdout)
    assert result["connected"] == wanted == result["answered"], result
    assert "no more connections allowed" in result["refused"], result


@pytest.mark.once
@pytest.mark.disruptive
def test_the_pools_stay_within_their_sizes_under_that_crowd(console, config):
    most = int(config["default_pool_size"]) + int(config["reserve_pool_size"])
    for row in console("SHOW POOLS"):
        used = sum(int(row[key]) for key in ("sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login"))
        assert used <= most, row


@pytest.mark.once
def test_prepared_statements_are_kept_where_pgbouncer_can(config):
    if "max_prepared_statements" in config:
        assert int(config["max_prepared_statements"]) > 0


# The last: some of its attempts stay at the database of nobody for as long as query_wait_timeout, and would be missed in a crowd.
@pytest.mark.once
@pytest.mark.disruptive
def test_one_application_cannot_become_another(host, config, inputs, login, database, held, tls, scripts):
    """CVE-2026-107350 and what else a login offers."""
    first, second = (
        database,
        next((each for each in held if each["owner"] != database["owner"]), {"owner": "postgres", "name": "postgres"}),
    )
    assert login("SELECT 1").stdout.strip() == "1"
    address = config["listen_addr"].split(",")[0].strip()
    # With the application's own password, and with the best one that there could be: that of the one user in auth_file.
    passwords = {first["owner"]: f"head -1 {PASSFILE} | cut -d: -f5-"}
    asker = inputs["pgbouncer_auth_user"]
    passwords[asker] = f'sed -n \'s/^"{asker}" "\\(.*\\)"$/\\1/p\' /etc/pgbouncer/userlist.txt'
    for known, password in passwords.items():
        for target in (second["owner"], "postgres" if known == asker else asker):
            theirs = second["name"] if target == second["owner"] else first["name"]
            arguments = f"{address} {config['listen_port']} {known} {first['name']} {target} {theirs}"
            done = host.run(f"{password} | {tls} timeout 300 python3 {scripts}/impostor.py {arguments}")
            assert done.rc == 0, done.stderr
            tried = json.loads(done.stdout)
            assert len(tried) > 20 and any(told == f"became {known}@{first['name']}" for told in tried.values()), tried
            # Whoever it became, it is itself; and where the application is, it is at home.
            itself = {f"became {known}@{first['name']}"} | ({f"became {known}@{theirs}"} if known == asker else set())
            became = {name: told for name, told in tried.items() if not told.startswith("refused") and told not in itself}
            assert became == {}, json.dumps(tried, indent=1)
