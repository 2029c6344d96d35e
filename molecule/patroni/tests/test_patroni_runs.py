"""What a run does with members that are not as it expects them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from database_client import sql, version
from deadline import until
from playbook_runner import play

testinfra_hosts = ["ansible://patroni"]
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once, pytest.mark.one_host]

PLAYBOOK = "playbooks/patroni.yml"
# A standby may not have fewer than the primary.
LOWER = {"postgresql_max_connections": 50}


def started(host) -> str:
    return host.run("runuser -u postgres -- psql -XAtqc 'SELECT pg_postmaster_start_time()'").stdout.strip()


def test_a_run_starts_a_member_that_was_stopped(inventory, cluster):
    name = cluster.standbys()[-1]
    cluster.hosts[name].check_output(f"systemctl stop {cluster.unit(name)}")
    run = play(inventory, PLAYBOOK)
    assert run.returncode == 0 and set(run.changed) == {name}, run.output
    cluster.wait_in_place()


def test_a_member_that_lost_its_data_copies_the_primary(inventory, cluster):
    name = cluster.standbys()[-1]
    emptied = cluster.hosts[name]
    emptied.check_output(f"systemctl stop {cluster.unit(name)} && rm -r /var/lib/postgresql/*/main")
    run = play(inventory, PLAYBOOK)
    assert run.returncode == 0 and set(run.changed) == {name}, run.output
    cluster.wait_in_place()


def test_a_host_with_databases_of_another_server_is_refused_and_stays_as_it_is(inventory, cluster):
    name = cluster.standbys()[-1]
    host, unit = cluster.hosts[name], cluster.unit(name)
    number = version(host)
    binaries, data = f"/usr/lib/postgresql/{number}/bin", f"/var/lib/postgresql/{number}/main"
    host.check_output(f"systemctl disable --now {unit} && mv {data} {data}.member")
    host.check_output(f"cd / && runuser -u postgres -- {binaries}/initdb --no-instructions {data}")
    create = "CREATE DATABASE other"
    host.check_output(f"cd / && echo '{create}' | runuser -u postgres -- {binaries}/postgres --single -D {data} postgres")
    listing = f"find {data} -type f | sort | xargs sha256sum | sha256sum"
    before = host.check_output(listing)
    run = play(inventory, PLAYBOOK)
    run.assert_refused(f"{name} has databases of another server, and a copy of the primary would take their place")
    assert host.check_output(listing) == before and host.run(f"systemctl is-enabled {unit}").stdout.strip() == "disabled"
    host.check_output(f"rm -r {data} && mv {data}.member {data} && systemctl enable --now {unit}")
    cluster.wait_in_place()


def test_fewer_connections_restart_the_primary_in_its_place_and_then_the_standbys(inventory, cluster, writer):
    """The client connects through HAProxy."""
    leading = cluster.primary()
    client = writer(cluster.standbys()[-1])
    client.start(900, through_haproxy=True)
    run = play(inventory, PLAYBOOK, variables=LOWER)
    assert run.returncode == 0, run.output
    client.finish("max_connections lowered by a run", longest=20, stop=True)
    assert cluster.primary() == leading
    assert {sql(host, "SHOW max_connections") for host in cluster.hosts.values()} == {"50"}
    cluster.wait_in_place()


def test_a_run_whose_leader_is_killed_ends_well_or_with_a_sentence_and_the_next_one_completes_it(inventory, cluster, writer):
    """It goes back to the value of the inventory: the standbys restart, and the primary after a switchover."""
    if sql(cluster.hosts[cluster.primary()], "SHOW max_connections") != "50":
        assert play(inventory, PLAYBOOK, variables=LOWER).returncode == 0
    leading, watched = cluster.primary(), cluster.standbys()[0]
    before = started(cluster.hosts[watched])
    client = writer(cluster.standbys()[-1])
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(play, inventory, PLAYBOOK)
        until(
            "the first standby has restarted", lambda: started(cluster.hosts[watched]) not in ("", before) or running.done(), 240
        )
        assert not running.done(), running.result().output
        client.start(60, through_haproxy=True)
        cluster.hosts[leading].check_output(f"systemctl kill --signal=KILL {cluster.unit(leading)}")
        run = running.result()
    print(f"the run whose leader was killed ended with {run.returncode}" + (f": {run.text[-500:]}" if run.returncode else ""))
    assert run.returncode == 0 or "Patroni: " in run.text, run.output
    client.finish("kill -9 of the primary and its Patroni during a run", longest=45)
    completed = play(inventory, PLAYBOOK)
    assert completed.returncode == 0, completed.output
    assert {sql(host, "SHOW max_connections") for host in cluster.hosts.values()} == {"60"}
    cluster.wait_in_place()
    again = play(inventory, PLAYBOOK)
    assert again.returncode == 0 and again.changed == {}, again.output
