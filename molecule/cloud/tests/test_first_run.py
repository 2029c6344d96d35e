"""A blank fleet of cloud images, from the refusals to the first finished job. Each test starts where the previous one ended."""

from __future__ import annotations

import pytest
from host_states import command, differences
from playbook_runner import play

PREVIOUS = """
set -eu
export DEBIAN_FRONTEND=noninteractive
sed s/trixie/bookworm/g /etc/apt/sources.list.d/debian.sources > /etc/apt/sources.list.d/previous.sources
apt-get -qq -o DPkg::Lock::Timeout=180 update
apt-get -qq -y -o DPkg::Lock::Timeout=180 install --no-install-recommends postgresql-15
rm /etc/apt/sources.list.d/previous.sources
runuser -u postgres -- psql -q -c 'CREATE TABLE kept AS SELECT 42 AS answer'
"""
UPGRADE = """
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y install --no-install-recommends postgresql-17
pg_upgradecluster -v 17 15 main
pg_ctlcluster 17 main stop
runuser -u postgres -- /usr/lib/postgresql/17/bin/pg_checksums --enable -D /var/lib/postgresql/17/main
pg_ctlcluster 17 main start
"""
LOCK_AGAIN = """
rm /var/lib/first-boot-upgrade
systemctl restart first-boot-upgrade
while [ ! -e /var/lib/first-boot-upgrade ]; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def data(site):
    return site.group("postgresql")[0]


def test_an_active_ufw_is_refused_with_its_remedy_and_nothing_changes(inventory, state):
    before = state()
    run = play(inventory, "site.yml")
    run.assert_refused("ufw is active and drops unknown packets", "then run `ufw disable`")
    assert differences(before, state(), ignored=("units",)) == []


def test_a_missing_sudo_password_ends_the_run_before_any_host_changes(inventory, monkeypatch):
    monkeypatch.delenv("ANSIBLE_BECOME_PASSWORD_FILE")
    run = play(inventory, "site.yml")
    assert run.returncode != 0 and not run.changed, run.output[-3000:]
    assert "Missing sudo password" in run.output[-3000:] and "cloud-data1: its first task failed" in run.text


def test_data_of_the_previous_postgresql_is_refused_and_kept_by_the_remedy_in_the_message(site, data, inventory):
    for host in site.hosts:
        host.run(["ufw", "disable"])
    data.run(["sh", "-c", PREVIOUS], timeout_s=600)
    run = play(inventory, "site.yml")
    run.assert_refused("holds data of PostgreSQL 15", "pg_upgradecluster -v 17 15 main")
    data.run(["sh", "-c", UPGRADE], timeout_s=600)


def test_a_first_run_waits_while_another_program_holds_dpkg_s_lock(site, inventory, data):
    for host in site.hosts:
        host.run(["sh", "-c", LOCK_AGAIN])
    run = play(inventory, "site.yml")
    assert run.returncode == 0, run.output[-6000:]
    query = ["runuser", "-u", "postgres", "--", "psql", "-XAtc", "SELECT answer FROM kept"]
    assert data.run(query).strip() == "42", "the data of the previous version"


def test_the_second_run_changes_nothing(inventory):
    run = play(inventory, "site.yml")
    assert run.returncode == 0 and run.changed == {}, run.output[-6000:]


def test_the_provider_s_time_service_stays_and_uses_the_declared_server(site):
    for host in site.hosts:
        assert host.run(["systemctl", "is-active", "chrony"]).strip() == "active"
        assert "10.77.0.1" in host.run(["chronyc", "-n", "sources"])


def test_a_host_with_two_networks_accepts_what_its_route_back_does_not_match(site):
    """Review finding 12: strict filtering (1) would drop an operator's session that came in by the other network."""
    for host in site.hosts:
        networks = {line.split()[1] for line in host.run(["ip", "-o", "-4", "address"]).splitlines()} - {"lo"}
        for network in networks:
            assert host.run(["sysctl", "-n", f"net.ipv4.conf.{network}.rp_filter"]).strip() == "2", network
        assert len(networks) == 2, networks


def test_a_job_is_accepted_and_done(inventory):
    done = command(".venv/bin/python", "-m", "lab.demo", "--inventory", inventory, "--no-converge", "--rounds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost          0" in done.stdout, done.stdout
