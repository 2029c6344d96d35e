"""What role patroni promises of the running members."""

from __future__ import annotations

import json

import pytest
from database_client import PKI, Cluster, sql

testinfra_hosts = ["ansible://patroni"]


@pytest.fixture
def members(fleet, fleet_inputs) -> Cluster:
    names = [name for name, inputs in fleet_inputs.items() if "patroni_members" in inputs]
    return Cluster({name: fleet[name] for name in names}, fleet_inputs)


@pytest.fixture
def leading(members):
    """The host of the primary."""
    return members.hosts[members.primary()]


@pytest.fixture
def unit(host) -> str:
    return host.check_output("systemctl list-units --plain --no-legend 'patroni@*' | awk '{print $1}'")


def test_the_member_runs_and_comes_back_at_boot_and_after_a_crash(host, unit):
    service = host.service(unit.removesuffix(".service"))
    assert service.is_running and service.is_enabled
    assert service.systemd_properties["Restart"] == "on-failure"
    assert service.systemd_properties["NeedDaemonReload"] == "no"
    # Debian's unit of a single server would start a second one on the same data.
    assert host.check_output("cat /etc/postgresql/*/main/start.conf") == "manual"


def test_there_is_one_primary_and_every_other_member_streams_from_it(members, inputs):
    members.wait_in_place()
    assert set(members.parts()) == set(inputs["patroni_members"])


def test_every_member_replicates_over_tls_with_the_certificate_of_patroni(leading, inputs):
    rows = sql(
        leading,
        "SELECT r.usename, s.ssl, s.client_dn, s.version FROM pg_stat_replication r JOIN pg_stat_ssl s USING (pid) "
        "WHERE r.state = 'streaming'",
    ).splitlines()
    assert len(rows) == len(inputs["patroni_members"]) - 1
    for row in rows:
        user, ssl, subject, version = row.split("|")
        assert (user, ssl) == ("replicator", "t") and "patroni.grunnfjell.internal" in subject and version >= "TLSv1.2"


def test_no_role_of_replication_is_a_superuser_or_has_a_password(leading):
    query = (
        "SELECT rolname, rolsuper, rolreplication, rolpassword IS NULL FROM pg_authid WHERE rolname IN ('replicator', 'rewind')"
    )
    assert set(sql(leading, query).splitlines()) == {"replicator|f|t|t", "rewind|f|f|t"}


def test_a_commit_waits_for_a_standby_whatever_fails(host, leading):
    assert sql(leading, "SHOW synchronous_standby_names") != ""
    config = json.loads(host.check_output("cd / && patronictl -c /etc/patroni/*-main.yml show-config | python3 -c "
                                          "'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))'"))  # fmt: skip
    assert config["synchronous_mode"] is True and config["synchronous_mode_strict"] is True


def test_every_member_runs_with_the_declared_settings(host, inputs):
    settings = {
        "shared_buffers": inputs["postgresql_shared_buffers"],
        "max_connections": str(inputs["postgresql_max_connections"]),
    }
    assert {name: sql(host, f"SHOW {name}") for name in settings} == settings
    assert sql(host, "SELECT count(*) FROM pg_settings WHERE pending_restart") == "0"


def test_every_member_has_the_declared_databases_and_roles(host, inputs):
    names = {database["name"] for database in inputs["postgresql_databases"]}
    assert names and names <= set(sql(host, "SELECT datname FROM pg_database").splitlines())
    roles = {role["name"] for role in inputs["postgresql_roles"]}
    assert roles <= set(sql(host, "SELECT rolname FROM pg_roles WHERE rolcanlogin").splitlines())


def test_nobody_without_a_certificate_of_the_fleet_asks_patroni(host, inputs, hostname):
    url = f"https://{inputs['patroni_restapi_address']}:{inputs['patroni_restapi_port']}/patroni"
    program = "python3 -c 'import ssl, sys, urllib.request as u; c = ssl.create_default_context(cafile=sys.argv[2]); " \
        "sys.argv[3:] and c.load_cert_chain(*sys.argv[3:]); u.urlopen(sys.argv[1], context=c, timeout=5)'"  # fmt: skip
    own = f"{PKI}/patroni/certificate.pem {PKI}/patroni/key.pem"
    assert host.run(f"{program} {url} {PKI}/authorities.pem {own}").rc == 0
    assert host.run(f"{program} {url} {PKI}/authorities.pem").rc != 0
