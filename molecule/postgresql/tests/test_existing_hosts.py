"""Hosts with a history: data of an older PostgreSQL, and an address that appears late."""

from __future__ import annotations

import pytest
from superuser import PSQL

testinfra_hosts = ["ansible://postgresql"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

LATE = "10.77.99.1"


def test_data_of_an_older_postgresql_is_refused_before_any_change(host, converge):
    """Review finding 20."""
    data, etc = "/var/lib/postgresql/13/main", "/etc/postgresql/13/main"
    host.check_output(f"mkdir -p {data} {etc} && echo 13 > {data}/PG_VERSION && echo auto > {etc}/start.conf")
    try:
        converge("playbooks/postgresql.yml").assert_refused("Nothing was changed", "pg_upgradecluster")
    finally:
        host.check_output("rm -r /var/lib/postgresql/13 /etc/postgresql/13")


def test_an_address_that_appears_later_is_listened_on_after_the_next_run(host, converge):
    """Review finding 15."""
    version = host.check_output(f"{PSQL} -d postgres -c 'SHOW server_version_num'")[:-4]
    unit = f"postgresql@{version}-main.service"
    assert "network-online.target" in host.service(unit).systemd_properties["After"].split()
    addresses = host.check_output(f"{PSQL} -d postgres -c 'SHOW listen_addresses'")
    host.check_output(f"{PSQL} -d postgres -c \"ALTER SYSTEM SET listen_addresses = '{addresses}, {LATE}'\"")
    listening = f"ss -ltnH src {LATE}:5432"
    try:
        host.check_output(f"systemctl restart {unit}")
        host.check_output(f"ip addr add {LATE}/32 dev lo")
        assert host.service(unit).is_running and host.check_output(listening) == ""
        run = converge("playbooks/postgresql.yml")
        assert run.returncode == 0 and host.check_output(listening), run.output
    finally:
        host.check_output(f"{PSQL} -d postgres -c 'ALTER SYSTEM RESET listen_addresses' && ip addr del {LATE}/32 dev lo")
        host.check_output(f"systemctl restart {unit}")
