"""A restore in place of a cluster: one member is restored, the others copy it."""

from __future__ import annotations

import json

import pytest
from authority import REPOSITORY
from backup_client import backups, wait_archived
from database_client import sql
from deadline import until
from playbook_runner import play

testinfra_hosts = ["ansible://patroni"]
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once, pytest.mark.one_host]

PLAYBOOK = "playbooks/restore.yml"
ROWS = "20000"


@pytest.fixture
def rows(cluster):
    """A table with rows, in an application's database."""
    host = cluster.hosts[cluster.primary()]
    sql(host, "DROP TABLE IF EXISTS articles", "news")
    sql(host, f"CREATE TABLE articles AS SELECT number FROM generate_series(1, {ROWS}) AS number", "news")
    return lambda name: sql(cluster.hosts[name], "SELECT count(*) FROM articles", "news")


def over(name: str, to: str = "latest") -> dict[str, str]:
    return {"restore_to": to, "restore_database": name, "restore_over": name}


def kept(host) -> set[str]:
    """The data directories that restores have replaced."""
    return set(host.run("ls -d /var/lib/postgresql/*/main.before-restore-*").stdout.split())


def test_a_restore_over_a_standby_or_without_a_member_is_refused(cluster, repository, repository_name, inventory):
    leading, (standby, other) = cluster.primary(), cluster.standbys()
    run = play(inventory, PLAYBOOK, variables=over(standby))
    run.assert_refused(f"Nothing was changed. The primary is {leading}, and the other members are copies of it")
    run = play(inventory, PLAYBOOK, "--limit", f"{leading},{standby},{repository_name}", variables=over(leading))
    run.assert_refused(f"Nothing was changed. {other} did not take part in this run")
    run = play(inventory, PLAYBOOK, variables=over(leading, "2026-11-29 10:00:00"))
    run.assert_refused("Nothing was changed.", "which is neither latest nor a time with its offset")
    assert cluster.in_place() and cluster.primary() == leading


def test_a_restore_that_fails_leaves_the_cluster_with_its_data(cluster, repository, inventory, rows):
    leading = cluster.primary()
    repository.check_output("cp -a /var/lib/pgbackrest/backup /var/lib/pgbackrest-kept")
    try:
        repository.check_output("find /var/lib/pgbackrest/backup/main -path '*bundle*' -type f -delete")
        run = play(inventory, PLAYBOOK, variables=over(leading))
        run.assert_failed("The restore failed", "The data from before is in place")
    finally:
        repository.check_output("rm -r /var/lib/pgbackrest/backup && mv /var/lib/pgbackrest-kept /var/lib/pgbackrest/backup")
    cluster.wait_in_place()
    assert rows(cluster.primary()) == ROWS
    wait_archived(cluster.hosts[cluster.primary()], 120)


def test_a_delete_is_undone_in_a_cluster_which_goes_on_with_all_members(cluster, repository, inventory, rows):
    leading = cluster.primary()
    host = cluster.hosts[leading]
    timeline, count = wait_archived(host)[:8], len(backups(repository))
    old = {name: kept(member) for name, member in cluster.hosts.items()}
    before = sql(host, "SELECT clock_timestamp()")
    sql(host, "DELETE FROM articles", "news")
    assert rows(leading) == "0"
    run = play(inventory, PLAYBOOK, variables=over(leading, before))
    assert run.returncode == 0, run.output
    record = json.loads((REPOSITORY / "build/restore.json").read_text(encoding="utf-8"))["in_place"][leading]
    assert record["rpo_s"] == 0 and record["rto_s"] > 0 and record["proved_rows"] >= int(ROWS), record
    cluster.wait_in_place()
    assert cluster.primary() == leading
    for name in cluster.hosts:
        until(f"the rows on {name}", lambda name=name: rows(name) == ROWS)
        assert len(kept(cluster.hosts[name]) - old[name]) == 1, name
    assert len(backups(repository)) > count, "no backup of the new timeline"
    assert wait_archived(host)[:8] > timeline
    drill = play(inventory, "playbooks/restore_drill.yml")
    assert drill.returncode == 0, drill.output
    assert json.loads(repository.file("/var/lib/grunnfjell/pgbackrest/last.json").content_string)["proved"]
    for playbook in ("playbooks/patroni.yml", "playbooks/pgbackrest.yml"):
        again = play(inventory, playbook)
        assert again.returncode == 0 and again.changed == {}, again.output
