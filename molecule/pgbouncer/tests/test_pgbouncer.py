"""What role pgbouncer promises, asked of the running service."""

from __future__ import annotations

import csv
import io
import ipaddress
import json
import shlex
from pathlib import Path

import pytest

testinfra_hosts = ["ansible://pgbouncer"]

PASSFILE = "/run/grunnfjell-test-pgpass"
INPUTS = [
    "auth_query",
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


@pytest.fixture(scope="module")
def evaluate(host):
    """A Jinja expression over the inventory's variables, as Ansible sees them on this host."""

    def run(expression: str):
        return json.loads(json.dumps(host.ansible("debug", f"msg={{{{ {expression} }}}}", check=False)["msg"]))

    return run


@pytest.fixture(scope="module")
def database(evaluate):
    """The first one, with the login of its owner that has the turn."""
    found = evaluate("hostvars[groups['postgresql'][0]]['postgresql_databases'][0]")
    roles = evaluate("hostvars[groups['postgresql'][0]]['postgresql_roles']")
    turns = [role["name"] for role in roles if found["owner"] in (role["name"], role.get("acts_as")) and role.get("login", True)]
    return {**found, "login": turns[0]}


@pytest.fixture(scope="module")
def login(host, config, database):
    """psql through PgBouncer as the application logs in. The password goes from the inventory into a file."""
    password = f"hostvars[groups['postgresql'][0]]['postgresql_role_passwords']['{database['login']}']"
    host.ansible("copy", f"dest={PASSFILE} mode=0600 content='*:*:*:*:{{{{ {password} }}}}\n'", check=False)
    address = config["listen_addr"].split(",")[0].strip()

    def run(sql: str, user: str = database["login"], name: str = database["name"], passfile: str = PASSFILE):
        where = f"-h {address} -p {config['listen_port']} -U {user} -d {name}"
        return host.run(f"PGPASSFILE={passfile} PGCONNECT_TIMEOUT=10 psql -XqAtw {where} -c {shlex.quote(sql)}")

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


def test_the_databases_are_those_declared_and_no_other(console, evaluate, inputs):
    declared = {name: database.get("dbname", name) for name, database in inputs["pgbouncer_databases"].items() if name != "*"}
    served = {row["name"]: row["database"] for row in console("SHOW DATABASES") if row["name"] != "pgbouncer"}
    assert {name: served.get(name) for name in declared} == declared
    # The wildcard serves what PostgreSQL holds, by its own name.
    assert all(database == name for name, database in served.items() if name not in declared), served
    held = {database["name"] for database in evaluate("hostvars[groups['postgresql'][0]]['postgresql_databases']")}
    assert set(served) - set(declared) <= held | {"postgres"}


@pytest.mark.once
def test_the_wildcard_database_leads_to_postgresql(console, login, database):
    assert login("SELECT 1").stdout.strip() == "1"
    (row,) = [row for row in console("SHOW DATABASES") if row["name"] == database["name"]]
    assert row["database"] == database["name"] and row["pool_mode"] in ("", "transaction")


def test_an_application_logs_in_and_works(login, database):
    done = login("SELECT current_user, current_database()")
    assert done.stdout.strip() == f"{database['owner']}|{database['name']}", done.stderr


@pytest.mark.once
def test_the_way_to_postgresql_is_encrypted(login):
    done = login("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert done.stdout.strip() == "t", done.stderr


@pytest.mark.once
def test_a_wrong_password_is_refused(host, login):
    host.check_output(f"install -m 0600 /dev/null {PASSFILE}-wrong && echo '*:*:*:*:wrong' > {PASSFILE}-wrong")
    done = login("SELECT 1", passfile=f"{PASSFILE}-wrong")
    assert done.rc and "SASL authentication failed" in done.stderr, done.stderr


@pytest.mark.once
@pytest.mark.parametrize("user", ["postgres", "nobody_at_all"])
def test_a_superuser_and_a_stranger_are_refused(login, user):
    done = login("SELECT 1", user=user)
    # The verifier never leaves PostgreSQL, so that PgBouncer knows no such user, or one with a made-up verifier.
    assert done.rc and ("no such user" in done.stderr or "authentication failed" in done.stderr), done.stderr


@pytest.mark.once
def test_an_expired_role_is_refused(login, evaluate):
    roles = evaluate("hostvars[groups['postgresql'][0]]['postgresql_roles']")
    for user in [role["name"] for role in roles if role.get("valid_until", "9999") < "2026"]:
        done = login("SELECT 1", user=user)
        assert done.rc and ("no such user" in done.stderr or "authentication failed" in done.stderr), done.stderr


@pytest.mark.once
def test_one_application_cannot_enter_the_database_of_another(login, evaluate, database):
    others = evaluate("hostvars[groups['postgresql'][0]]['postgresql_databases']")
    for other in others:
        if other["name"] != database["name"] and database["owner"] not in [other["owner"], *other.get("roles", [])]:
            assert login("SELECT 1", name=other["name"]).rc, f"{database['owner']} entered {other['name']}"


@pytest.mark.once
def test_nobody_reaches_or_fells_the_console_over_the_network(host, login, database):
    before = host.service("pgbouncer").systemd_properties["MainPID"]
    # With a global auth_user each of these would end PgBouncer 1.18.
    for user in ("pgbouncer", "postgres", "nobody_at_all", database["owner"]):
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


@pytest.mark.once
@pytest.mark.disruptive
def test_as_many_clients_as_promised_really_work_at_once(host, login, config, database):
    wanted = int(config["max_client_conn"])
    source = Path(__file__).with_name("crowd.py").read_text(encoding="utf-8")
    address = config["listen_addr"].split(",")[0].strip()
    # One more than promised: it is refused in PgBouncer's own words, not by a full table of descriptors.
    arguments = f"{address} {config['listen_port']} {database['login']} {database['name']} {PASSFILE} {wanted + 1}"
    done = host.run(f"timeout 120 python3 -c {shlex.quote(source)} {arguments}")
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
