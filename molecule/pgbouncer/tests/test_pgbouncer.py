"""What role pgbouncer promises of the running service."""

from __future__ import annotations

import ipaddress
import json
import secrets

import pytest
from pgbouncer_client import PASSFILE

testinfra_hosts = ["ansible://pgbouncer"]

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


def test_the_service_runs_and_comes_back_at_boot_and_after_a_crash(host):
    service = host.service("pgbouncer")
    assert service.is_running and service.is_enabled, host.run("journalctl --no-pager -n 20 -u pgbouncer").stdout
    assert service.systemd_properties["Restart"] == "on-failure"


def test_pgbouncer_listens_only_on_loopback_or_private_addresses(host, config):
    listening = host.check_output(f"ss -ltnH 'sport = :{config['listen_port']}' | awk '{{print $4}}'").split()
    assert listening, host.run("ss -ltnp").stdout
    for item in listening:
        address = ipaddress.ip_address(item.rpartition(":")[0].strip("[]"))
        assert address.is_private and not address.is_unspecified, item


@pytest.mark.once
def test_debian_s_socket_unit_cannot_open_all_addresses(host):
    assert host.run("systemctl is-enabled pgbouncer.socket").stdout.strip() == "masked"
    assert not host.service("pgbouncer.socket").is_running


def test_the_running_configuration_is_that_of_the_inventory(config, inputs):
    for key in INPUTS:
        value = inputs[f"pgbouncer_{key}"]
        assert (", ".join(value) if isinstance(value, list) else str(value)) == config[key], key


def test_only_the_declared_databases_exist(console, inputs):
    declared = {name: database.get("dbname", name) for name, database in inputs["pgbouncer_databases"].items()}
    if inputs["pgbouncer_session_pool_size"]:
        declared |= {f"{name}.session": database for name, database in declared.items()}
    # PgBouncer lists requested but undeclared databases for a while, with a host that does not exist.
    rows = [row for row in console("SHOW DATABASES") if row["name"] != "pgbouncer" and row["host"] != "/nonexistent"]
    assert {row["name"]: row["database"] for row in rows} == declared


@pytest.mark.disruptive
@pytest.mark.once
def test_an_undeclared_database_is_refused(login):
    assert login("SELECT 1", name="postgres").rc


@pytest.mark.disruptive
@pytest.mark.once
def test_a_database_is_pooled_by_transactions(console, login, database):
    assert login("SELECT 1").stdout.strip() == "1"
    (row,) = [row for row in console("SHOW DATABASES") if row["name"] == database["name"]]
    assert row["database"] == database["name"] and row["pool_mode"] in ("", "transaction")


@pytest.mark.disruptive
@pytest.mark.once
def test_a_session_keeps_its_connection_and_gives_its_locks_back(login, database):
    """A migration that ends without unlocking would keep the next one waiting."""
    key = secrets.randbelow(2**31)
    locked = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {key}"
    session = login(f"SELECT pg_advisory_lock({key}); {locked}", name=f"{database['name']}.session")
    assert session.stdout.split() == ["1"], session.stderr
    assert login(locked).stdout.split() == ["0"]


@pytest.mark.disruptive
def test_an_application_logs_in_and_works(login, database):
    result = login("SELECT current_user, current_database()")
    assert result.stdout.strip() == f"{database['owner']}|{database['name']}", result.stderr


def test_the_running_process_has_descriptors_for_all_clients_and_pools(host, config):
    pid = host.service("pgbouncer").systemd_properties["MainPID"]
    limit = int(host.check_output(f"awk '/^Max open files/ {{print $4}}' /proc/{pid}/limits"))
    needed = int(config["max_client_conn"]) + int(config["default_pool_size"]) + int(config["reserve_pool_size"])
    assert limit > needed
    # The next process, after a reboot or a crash, has them too.
    assert int(host.service("pgbouncer").systemd_properties["LimitNOFILE"]) > needed


@pytest.mark.once
@pytest.mark.disruptive
def test_as_many_clients_as_promised_work_at_once(host, login, config, address, database, tls, scripts):
    promised = int(config["max_client_conn"])
    # One more than promised: PgBouncer must refuse it, and not run out of descriptors.
    arguments = f"{address} {config['listen_port']} {database['login']} {database['name']} {PASSFILE} {promised + 1}"
    result = host.run(f"{tls} timeout 120 python3 {scripts}/crowd.py {arguments}")
    assert result.rc == 0, result.stderr + host.run("journalctl --no-pager -n 20 -u pgbouncer").stdout
    counts = json.loads(result.stdout)
    assert counts["connected"] == promised == counts["answered"], counts
    assert "no more connections allowed" in counts["refused"], counts


@pytest.mark.once
@pytest.mark.disruptive
def test_the_pools_stay_within_their_sizes_with_that_many_clients(console, config):
    size = int(config["default_pool_size"]) + int(config["reserve_pool_size"])
    for row in console("SHOW POOLS"):
        used = sum(int(row[key]) for key in ("sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login"))
        assert used <= size, row


@pytest.mark.once
def test_prepared_statements_are_kept_where_pgbouncer_can(config):
    if "max_prepared_statements" in config:
        assert int(config["max_prepared_statements"]) > 0
