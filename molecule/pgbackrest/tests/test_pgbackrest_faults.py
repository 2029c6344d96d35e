"""What happens to WAL and backups when something fails: nothing is lost in silence."""

from __future__ import annotations

import contextlib
import json
import shlex

import pytest
from backup_client import archived, backup_status, backups, held, pgbackrest, sql, wait_archived
from deadline import until
from playbook_runner import play

testinfra_hosts = ["ansible://pgbackrest"]
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once]

CONFIGURATION = "/etc/pgbackrest/pgbackrest.conf"
repository_only = pytest.mark.only_on(lambda variables: bool(variables.get("pgbackrest_database_hosts")))
database_only = pytest.mark.only_on(lambda variables: bool(variables.get("pgbackrest_repository_hosts")))


@contextlib.contextmanager
def away(repository):
    """The repository host accepts nobody."""
    repository.check_output("systemctl stop pgbackrest")
    try:
        yield
    finally:
        repository.check_output("systemctl start pgbackrest")


@contextlib.contextmanager
def edited(host, program):
    """The configuration with an edit by sed, and afterwards as it was."""
    host.check_output(f"cp -p {CONFIGURATION} {CONFIGURATION}.kept && sed -i {shlex.quote(program)} {CONFIGURATION}")
    try:
        yield
    finally:
        host.check_output(f"mv {CONFIGURATION}.kept {CONFIGURATION}")


@database_only
def test_wal_waits_for_a_repository_host_that_is_away_and_follows(host, hostname, peer, pair, inventory, first_backup):
    waiting_sql = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
    wait_archived(host)
    with away(peer):
        for _ in range(3):
            sql(host, "SELECT pg_logical_emit_message(true, 'grunnfjell', 'a commit'), pg_switch_wal()")
        last = sql(host, "SELECT pg_walfile_name(pg_current_wal_insert_lsn() - 1)")
        until("WAL waits", lambda: int(sql(host, waiting_sql)) >= 3)
        until(
            "a failure is noticed", lambda: sql(host, "SELECT last_failed_time > last_archived_time FROM pg_stat_archiver") == "t"
        )
        report = backup_status(inventory, pair)
        assert any(f"{hostname}: no WAL reached" in line and "it is dropped" in line for line in report["attention"]), report
        assert report["archives"][hostname]["waiting_bytes"] >= 3 * 16 * 2**20
        # The database serves as before.
        sql(host, "CREATE TABLE public.while_away AS SELECT 1 AS one")
        sql(host, "DROP TABLE public.while_away")
    until("the repository caught up", lambda: archived(host) >= last, 120)
    wait_archived(host, 120)
    report = backup_status(inventory, pair)
    assert not any("no WAL reached" in line or "is missing" in line for line in report["attention"]), report["attention"]


@database_only
def test_wal_is_archived_in_time_after_a_restart_as_well(host, inputs, first_backup):
    """PostgreSQL's checkpointer would sleep for five minutes after a clean start, and close no segment."""
    (unit,) = host.check_output("systemctl list-units --plain --no-legend 'postgresql@*' | awk '{print $1}'").split()
    host.check_output(f"systemctl restart {unit}")
    segment = sql(host, "SELECT pg_walfile_name(pg_logical_emit_message(true, 'grunnfjell', 'a commit'))")
    limit = inputs["postgresql_parameters"]["archive_timeout"] + 15
    until(f"{segment} archived", lambda: archived(host) >= segment, limit)


@database_only
def test_wal_beyond_its_limit_is_dropped_and_status_names_the_gap_until_a_backup(host, peer, pair, inventory, first_backup):
    """A full disk would stop PostgreSQL, which is worse than a gap in its history."""
    wait_archived(host)
    before = len(backups(peer))
    # An upload is tried for a minute and longer, and the limit is only looked at between two.
    faster = "archive-push-queue-max=50331648\\nio-timeout=5\\nprotocol-timeout=10\\narchive-timeout=10"
    with edited(host, f"s/^archive-push-queue-max=.*/{faster}/"), away(peer):
        last = archived(host)
        for _ in range(6):
            sql(host, "SELECT pg_logical_emit_message(true, 'grunnfjell', 'a commit'), pg_switch_wal()")
        # What was dropped counts as archived for PostgreSQL, which then removes it.
        until("WAL is dropped", lambda: archived(host) > last, 180)
    wait_archived(host, 120)
    report = backup_status(inventory, pair)
    assert any("no later moment can be restored" in line for line in report["attention"]), report["attention"]
    peer.check_output("systemctl start grunnfjell-backup@full")
    until("a new backup", lambda: len(backups(peer)) > before)
    report = backup_status(inventory, pair)
    assert not any("can be restored" in line for line in report["attention"]), report["attention"]


@repository_only
def test_a_wrong_passphrase_is_refused_and_changes_nothing(host, inventory, pair, first_backup):
    before = held(host)
    run = play(
        inventory, "playbooks/pgbackrest.yml", "--limit", pair, variables={"pgbackrest_repo_cipher_pass": "0123456789abcdef"}
    )
    try:
        run.assert_failed("The repository has another passphrase than pgbackrest_repo_cipher_pass.")
        assert "0123456789abcdef" not in run.output
        host_status = pgbackrest(host, "--type=incr --log-level-console=off --log-level-stderr=error backup")
        assert host_status.rc != 0, "a backup with another passphrase"
    finally:
        mended = play(inventory, "playbooks/pgbackrest.yml", "--limit", pair)
    assert mended.returncode == 0, mended.output
    assert held(host)["backup"] == before["backup"]


@repository_only
def test_a_flipped_byte_in_a_backup_is_found_by_verify_and_by_the_drill(host, inputs, inventory, hostname, pair, first_backup):
    path, label = inputs["pgbackrest_repo_path"], backups(host)[-1]["label"]
    full = f"{path}/backup/main/{label.split('_')[0]}"
    bundle = shlex.quote(host.check_output(f"find {full} -type f -size +100k ! -name 'backup.manifest*'").split()[0])
    host.check_output(f"cp -p {bundle} /var/lib/pgbackrest.kept")
    try:
        # In the middle of the largest part: the head is OpenSSL's mark.
        flip = f"b=$(stat -c %s {bundle}); printf '\\377' | dd of={bundle} bs=1 seek=$((b / 2)) conv=notrunc status=none"
        host.check_output(flip)
        assert host.run(f"cmp {bundle} /var/lib/pgbackrest.kept").rc != 0, "the byte was 255 before"
        verified = pgbackrest(host, "--log-level-console=info verify")
        assert "error" in verified.stdout.lower() and "invalid" in verified.stdout.lower(), verified.stdout
        # The weekly drill, and the one that a person asks for.
        assert host.run("systemctl start grunnfjell-restore-drill").rc != 0
        weekly = json.loads(host.file("/var/lib/grunnfjell/pgbackrest/last.json").content_string)
        assert not weekly["proved"] and weekly["problems"] and "restore_point" not in weekly, weekly
        report = backup_status(inventory, pair)
        sentence = f"{hostname}: the last restore of"
        assert any(sentence in line and weekly["problems"][0] in line for line in report["attention"]), report["attention"]
        run = play(inventory, "playbooks/restore_drill.yml", "--limit", pair)
        run.assert_failed(f"{hostname}: the restore of main is not proved")
        record = json.loads(host.file("/var/lib/grunnfjell/pgbackrest/last.json").content_string)
        assert not record["proved"] and record["problems"]
        host.run("systemctl reset-failed grunnfjell-restore-drill")
    finally:
        host.check_output(f"mv /var/lib/pgbackrest.kept {bundle}")
    verified = pgbackrest(host, "--log-level-console=info verify")
    assert verified.rc == 0, verified.stdout


@repository_only
@pytest.mark.parametrize("clock", ["-2d", "+400d"])
def test_a_backup_by_a_clock_that_is_off_fails_with_its_reason_and_harms_nothing(host, clock, first_backup):
    """A run by Ansible refuses such a host (topology_clock_offset_max); the timers' backups do not run by Ansible."""
    host.check_output("DEBIAN_FRONTEND=noninteractive apt-get install -qq libfaketime")
    library = host.check_output("find /usr/lib -name libfaketime.so.1")
    before = held(host)["backup"]
    command = "pgbackrest --stanza=main --type=incr --log-level-console=off --log-level-stderr=warn backup"
    done = host.run(f"runuser -u postgres -- env LD_PRELOAD={library} FAKETIME={clock} {command}")
    assert done.rc != 0 and "ERROR: [" in done.stderr, done
    assert any(word in done.stderr for word in ("certificate", "clock skew")), done.stderr
    assert held(host)["backup"] == before
