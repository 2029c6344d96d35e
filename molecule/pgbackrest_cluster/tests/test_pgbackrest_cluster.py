"""Archiving and backups of a cluster, whichever member is the primary."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
from backup_client import archived, backups, wait_archived
from database_client import CTL, sql
from deadline import until
from playbook_runner import play

testinfra_hosts = ["ansible://patroni"]
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once, pytest.mark.one_host]

TIMER = "grunnfjell-backup-failover.timer"
FAILED_OVER = "failed over since the last backup"
# A measured bound for these hosts, which share two cores with each other and with more.
UPLOAD_S = 20


def podman(verb: str, name: str, *arguments: str) -> None:
    subprocess.run(["podman", verb, f"grunnfjell-{name}", *arguments], check=True, capture_output=True)


def timeline_of(backup: dict) -> int:
    return int(backup["archive"]["start"][:8], 16)


def timeline(host) -> int:
    return int(sql(host, "SELECT timeline_id FROM pg_control_checkpoint()"))


def test_a_backup_reads_a_standby(cluster, repository):
    before = len(backups(repository))
    repository.check_output("systemctl start grunnfjell-backup@incr")
    assert len(backups(repository)) == before + 1
    log = repository.check_output("cat /var/log/pgbackrest/main-backup.log")
    last = log[log.rindex("backup command begin") :]
    assert "replay on the standby reached" in last, last


def test_only_the_primary_archives(cluster, repository):
    leading = cluster.primary()
    wait_archived(cluster.hosts[leading])
    for name in cluster.standbys():
        # A process of this name runs where WAL is archived.
        assert cluster.hosts[name].run("pgrep -f 'postgres: .*archiver'").rc != 0, name
    assert cluster.hosts[leading].run("pgrep -f 'postgres: .*archiver'").rc == 0


def test_status_shows_one_archive_and_one_repository_for_the_cluster(cluster, repository, repository_name, status):
    wait_archived(cluster.hosts[cluster.primary()])
    report = status()
    assert list(report["archives"]) == [cluster.primary()]
    held = report["backups"][repository_name]
    assert held["database"] == ", ".join(cluster.hosts) and held["missing"] == [] and held["newest_wal"]
    lines = [line for line in report["attention"] if "WAL" in line or "backup" in line]
    assert lines == [], report["attention"]


def test_the_plan_counts_the_repository_of_a_cluster(cluster, repository, repository_name, inventory):
    run = play(inventory, "playbooks/plan.yml")
    assert run.returncode == 0 and "disk of the repository" in run.text, run.output


def test_a_drill_marks_the_primary_and_proves_the_last_state_and_a_moment(cluster, repository, inventory, writer, fleet_inputs):
    leading = cluster.primary()
    client = writer(cluster.standbys()[0])
    client.start(900)
    run = play(inventory, "playbooks/restore_drill.yml")
    client.finish("a restore drill", longest=20, stop=True)
    assert run.returncode == 0 and not run.changed, run.output
    record = json.loads(repository.file("/var/lib/grunnfjell/pgbackrest/last.json").content_string)
    assert record["proved"] and record["problems"] == [] and record["latest"]["rows"] > 20, record
    limit = fleet_inputs[leading]["postgresql_parameters"]["archive_timeout"] + UPLOAD_S
    assert record["rpo_s"] <= limit, record
    print(f"drill: RPO {record['rpo_s']} s, lost {record['lost_s']} s, RTO {record['latest']['rto_s']} s")


def test_wal_is_archived_in_time_after_a_restart_of_the_primary(cluster, repository, fleet_inputs):
    """PostgreSQL's checkpointer would sleep for five minutes after a start as the primary, and close no segment."""
    leading = cluster.primary()
    host = cluster.hosts[leading]
    host.check_output(f"{CTL} restart main {leading} --force")
    cluster.wait_in_place()
    assert cluster.primary() == leading
    segment = sql(host, "SELECT pg_walfile_name(pg_logical_emit_message(true, 'grunnfjell', 'a commit'))")
    limit = fleet_inputs[leading]["postgresql_parameters"]["archive_timeout"] + UPLOAD_S
    until(f"{segment} archived", lambda: archived(host) >= segment, limit)


def test_a_lost_primary_takes_no_row_and_the_next_one_archives_and_is_backed_up(cluster, repository, status, writer, inventory):
    leading = cluster.primary()
    before, count = timeline(cluster.hosts[leading]), len(backups(repository))
    assert repository.service(TIMER).is_running
    repository.check_output(f"systemctl stop {TIMER}")  # it may look at any moment
    hosts_file = cluster.hosts[leading].check_output("cat /etc/hosts")
    client = writer(cluster.standbys()[-1])
    client.start(60)
    podman("kill", leading)
    try:
        client.finish("power cut of the primary's host", longest=45)
        others = {name: host for name, host in cluster.hosts.items() if name != leading}
        follower = type(cluster)(others, cluster.inputs)
        now = others[until("another primary", follower.leader)]
        assert wait_archived(now)[:8] > f"{before:08X}"
        assert any(FAILED_OVER in line for line in status()["attention"])
        repository.check_output("systemctl start grunnfjell-backup@failover")
        assert len(backups(repository)) == count + 1 and timeline_of(backups(repository)[-1]) > before
        assert not any(FAILED_OVER in line for line in status()["attention"])
        # There is nothing to do any more.
        repository.check_output("systemctl start grunnfjell-backup@failover")
        assert len(backups(repository)) == count + 1
    finally:
        podman("start", leading)
        # Podman writes another file at each start; a machine keeps its own.
        podman("exec", leading, "sh", "-c", f"printf '%s\n' {shlex.quote(hosts_file)} > /etc/hosts")
        repository.check_output(f"systemctl start {TIMER}")
    # The former primary first archives the WAL that it still has.
    cluster.wait_in_place(240)
    run = play(inventory, "playbooks/restore_drill.yml")
    assert run.returncode == 0, run.output
    again = play(inventory, "playbooks/pgbackrest.yml")
    assert again.returncode == 0 and again.changed == {}, again.output


def test_a_switchover_archives_without_a_gap(cluster, repository, status):
    former, candidate = cluster.primary(), cluster.standbys()[0]
    wait_archived(cluster.hosts[former])
    cluster.hosts[former].check_output(f"{CTL} switchover main --force --candidate {candidate}")
    cluster.wait_in_place()
    assert cluster.primary() == candidate
    wait_archived(cluster.hosts[candidate])
    report = status()
    assert list(report["archives"]) == [candidate]
    assert not any("is missing" in line for line in report["attention"]), report["attention"]
