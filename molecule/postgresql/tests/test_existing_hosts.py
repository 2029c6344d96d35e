"""Hosts as they really are: data of an older PostgreSQL, databases that nobody declared, an address that comes late."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playbook_runner import PlaybookRun, play
from superuser import PSQL

testinfra_hosts = ["ansible://postgresql"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

LATE = "10.77.99.1"


@pytest.fixture
def run(host, request) -> Callable[..., PlaybookRun]:
    def playbook(*arguments: str) -> PlaybookRun:
        limit = ["--limit", host.backend.get_hostname()]
        return play(request.config.option.ansible_inventory, "playbooks/postgresql.yml", *limit, *arguments)

    return playbook


def test_data_of_an_older_postgresql_is_refused_before_anything_changes(host, run):
    """Review finding 20."""
    data, etc = "/var/lib/postgresql/13/main", "/etc/postgresql/13/main"
    host.check_output(f"mkdir -p {data} {etc} && echo 13 > {data}/PG_VERSION && echo auto > {etc}/start.conf")
    try:
        done = run()
        assert done.returncode and "Nothing was changed" in done.said and "pg_upgradecluster" in done.said, done.printed
        assert done.changed == {}
    finally:
        host.check_output("rm -r /var/lib/postgresql/13 /etc/postgresql/13")


def test_an_address_that_comes_after_postgresql_is_listened_on_after_the_next_run(host, run):
    """Review finding 15."""
    version = host.check_output(f"{PSQL} -d postgres -c 'SHOW server_version_num'")[:-4]
    unit = f"postgresql@{version}-main.service"
    assert "network-online.target" in host.service(unit).systemd_properties["After"].split()
    wanted = host.check_output(f"{PSQL} -d postgres -c 'SHOW listen_addresses'")
    host.check_output(f"{PSQL} -d postgres -c \"ALTER SYSTEM SET listen_addresses = '{wanted}, {LATE}'\"")
    listening = f"ss -ltnH src {LATE}:5432"
    try:
        host.check_output(f"systemctl restart {unit}")
        host.check_output(f"ip addr add {LATE}/32 dev lo")
        assert host.service(unit).is_running and host.check_output(listening) == ""
        done = run()
        assert done.returncode == 0 and host.check_output(listening), done.printed
    finally:
        host.check_output(f"{PSQL} -d postgres -c 'ALTER SYSTEM RESET listen_addresses' && ip addr del {LATE}/32 dev lo")
        host.check_output(f"systemctl restart {unit}")
