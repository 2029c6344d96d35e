"""A fleet with one server of PostgreSQL grows to three."""

from __future__ import annotations

import pytest
from database_client import Writer, sql, version
from playbook_runner import play

testinfra_hosts = ["ansible://patroni"]
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once, pytest.mark.one_host]

ROWS = 20000
IDENTIFIER = "SELECT system_identifier FROM pg_control_system()"
ETCDCTL = (
    "ETCDCTL_API=3 etcdctl --endpoints=https://{address}:2379 --cacert=/etc/grunnfjell/pki/authorities.pem "
    "--cert=/etc/grunnfjell/pki/etcd/certificate.pem --key=/etc/grunnfjell/pki/etcd/key.pem"
)


@pytest.fixture
def single(inventory, cluster):
    """The second host, with a server that role postgresql made, and data. The others have what Debian's package makes."""
    number = version(next(iter(cluster.hosts.values())))
    for name, host in cluster.hosts.items():
        host.check_output(f"systemctl disable --now {cluster.unit(name)}")
    name, host = sorted(cluster.hosts.items())[1]
    address = cluster.inputs[name]["patroni_members"][name]
    host.check_output(f"{ETCDCTL.format(address=address)} del --prefix /service/main/")
    for member in cluster.hosts.values():
        member.check_output(
            f"rm -r /var/lib/postgresql/{number}/main /etc/postgresql/{number}/main /etc/patroni/{number}-main.yml"
        )
        member.check_output(f"pg_createcluster {number} main")
    run = play(inventory, "playbooks/postgresql.yml", "--limit", name, variables={"postgresql_under_patroni": False})
    assert run.returncode == 0, run.output
    assert host.check_output(f"systemctl is-active postgresql@{number}-main") == "active"
    sql(host, f"SET ROLE news; CREATE TABLE kept AS SELECT generate_series(1, {ROWS}) AS number", "news")
    sql(host, "SET ROLE news; CREATE TABLE acknowledged (number bigint)", "news")
    return name


def test_a_single_server_with_data_becomes_three_without_a_dump(inventory, cluster, single):
    host = cluster.hosts[single]
    identifier = sql(host, IDENTIFIER)
    client = Writer(host, cluster.inputs[single])
    client.start(900)
    run = play(inventory, "site.yml")
    assert run.returncode == 0, run.output
    client.finish("a single server adopted, and copied twice", longest=30, stop=True)
    assert cluster.primary() == single
    cluster.wait_in_place()
    for member in cluster.hosts.values():
        assert sql(member, IDENTIFIER) == identifier
        assert sql(member, "SELECT count(*) FROM kept", "news") == str(ROWS)
    again = play(inventory, "playbooks/patroni.yml")
    assert again.returncode == 0 and again.changed == {}, again.output
