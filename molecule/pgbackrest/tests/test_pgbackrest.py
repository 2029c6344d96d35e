"""What role pgbackrest promises of the running services, on both ends."""

from __future__ import annotations

import re
import shlex

import pytest
from authority import unknown_authority
from backup_client import archived, backups, held, pgbackrest, sql, wait_archived
from deadline import until

testinfra_hosts = ["ansible://pgbackrest"]

PKI = "/etc/grunnfjell/pki/pgbackrest"
CONFIGURATION = "/etc/pgbackrest/pgbackrest.conf"


repository_only = pytest.mark.only_on(lambda variables: bool(variables.get("pgbackrest_database_hosts")))
database_only = pytest.mark.only_on(lambda variables: bool(variables.get("pgbackrest_repository_hosts")))


def test_the_server_runs_and_comes_back_at_boot_and_after_a_crash(host):
    service = host.service("pgbackrest")
    assert service.is_running and service.is_enabled
    assert service.systemd_properties["Restart"] == "always"
    assert service.systemd_properties["NeedDaemonReload"] == "no"


def test_the_server_listens_on_its_declared_address_only(host, inputs):
    expected = f"{inputs['pgbackrest_tls_server_address']}:{inputs['pgbackrest_tls_server_port']}"
    listening = host.check_output(f"ss -ltnH sport = :{inputs['pgbackrest_tls_server_port']} | awk '{{print $4}}'").split()
    assert listening == [expected]


def test_the_vendor_s_configuration_is_as_shipped(host):
    assert "/etc/" not in host.run("dpkg --verify pgbackrest").stdout


def test_only_its_account_reads_the_configuration(host):
    file = host.file(CONFIGURATION)
    assert (file.user, file.group, oct(file.mode)) == ("root", "postgres", "0o640")
    assert host.run(f"runuser -u nobody -- cat {CONFIGURATION}").rc != 0


@database_only
def test_the_database_does_not_hold_the_passphrase(host, first_backup):
    """It archives to an encrypted repository all the same: the repository host encrypts nothing that it does not hold itself."""
    assert "cipher" not in host.file(CONFIGURATION).content_string
    assert host.run("ls /etc/pgbackrest/drill.conf").rc != 0


@repository_only
def test_everything_in_the_repository_is_encrypted(host, inputs, first_backup):
    """OpenSSL marks an encrypted file by its first bytes."""
    path = inputs["pgbackrest_repo_path"]
    files = host.check_output(f"find {path}/archive {path}/backup -type f -size +0 ! -name '*.backup'").split()
    assert len(files) > 4
    heads = host.check_output(f"head -qc 8 {' '.join(map(shlex.quote, files))}")
    assert heads.count("Salted__") == len(files)


@repository_only
def test_a_repository_host_runs_no_database(host):
    assert host.check_output("pg_lsclusters --no-header") == ""
    assert host.run("pgrep -x postgres").rc != 0


@database_only
@pytest.mark.disruptive
def test_wal_reaches_the_repository_within_the_promised_time(host, peer, inputs, first_backup):
    """The RPO: a commit is in the repository after archive_timeout and the upload, though nothing else is written."""
    limit = inputs["postgresql_parameters"]["archive_timeout"] + 15
    segment = sql(host, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
    sql(host, "SELECT pg_logical_emit_message(true, 'grunnfjell', 'a commit')")
    until(f"{segment} archived", lambda: archived(host) >= segment, limit)
    assert held(peer)["archive"][-1]["max"] >= segment


@database_only
def test_the_archive_settings_are_in_force(host, inputs):
    answers = [sql(host, f"SHOW {name}") for name in ("archive_mode", "archive_command")]
    assert answers == ["on", f"pgbackrest --stanza={inputs['pgbackrest_stanza']} archive-push %p"]
    assert sql(host, "SELECT setting FROM pg_settings WHERE name = 'archive_timeout'") == str(
        inputs["postgresql_parameters"]["archive_timeout"]
    )


@repository_only
def test_the_first_full_backup_is_taken_without_being_asked_for(host, first_backup):
    assert first_backup["type"] == "full"
    assert held(host)["status"]["message"] == "ok"


@repository_only
@pytest.mark.parametrize("kind", ["full", "diff", "incr"])
def test_each_type_of_backup_has_its_time_with_jitter(host, inputs, kind):
    hours = inputs["pgbackrest_incremental_hours"]
    expected = {
        "full": f"{','.join(inputs['pgbackrest_full_weekdays'])} *-*-* {inputs['pgbackrest_backup_time']}:00",
        "diff": f"*-*-* {inputs['pgbackrest_backup_time']}:00",
        "incr": f"*-*-* 00/{hours}:30:00",
    }[kind]
    timer = host.service(f"grunnfjell-backup-{kind}.timer")
    if kind == "incr" and not hours:
        assert not timer.is_running and not timer.is_enabled
        return
    assert timer.is_running and timer.is_enabled
    properties = timer.systemd_properties
    assert expected in properties["TimersCalendar"]
    assert properties["RandomizedDelayUSec"] == "30min" and properties["Persistent"] == "yes"
    # The time in force is the new one after a change, not the one at which the timer was started.
    assert properties["NextElapseUSecRealtime"], properties


@repository_only
def test_a_restore_is_tried_every_week_with_jitter(host, inputs):
    timer = host.service("grunnfjell-restore-drill.timer")
    assert timer.is_running and timer.is_enabled
    properties = timer.systemd_properties
    expected = f"{','.join(inputs['pgbackrest_drill_weekdays'])} *-*-* {inputs['pgbackrest_drill_time']}:00"
    assert expected in properties["TimersCalendar"] and properties["NextElapseUSecRealtime"], properties
    assert properties["RandomizedDelayUSec"] == "30min" and properties["Persistent"] == "yes"


@repository_only
def test_backups_are_kept_for_the_declared_days(host, inputs):
    settings = host.file(CONFIGURATION).content_string.splitlines()
    assert f"repo1-retention-full={inputs['pgbackrest_repo_retention_full']}" in settings
    assert "repo1-retention-full-type=time" in settings


@database_only
def test_a_change_of_the_files_is_read_by_the_server(host):
    """The server reads its file at a start and a reload only."""
    read = host.check_output("cat /var/lib/grunnfjell/host/in_force/etc-pgbackrest-pgbackrest.conf")
    assert re.fullmatch(r"[0-9a-f]{64}", read)


@database_only
@pytest.mark.disruptive
def test_the_certificate_of_another_host_is_refused(host, authority, first_backup, inputs):
    """A worker has a certificate of the same authority, and another name."""
    command = "--log-level-console=off --log-level-stderr=error repo-ls"
    assert pgbackrest(host, command).rc == 0
    refused = pgbackrest(host, f"{with_identity(host, authority.issue('worker1'))} {command}")
    assert refused.rc != 0 and "access denied" in refused.stderr.lower(), refused.stderr


@database_only
@pytest.mark.disruptive
@pytest.mark.parametrize("fault", ["unknown authority", "expired"])
def test_an_invalid_certificate_is_refused(host, hostname, authority, fault, tmp_path, first_backup):
    """Though it has the right name. Without any certificate, pgBackRest's own client does not even try."""
    issuer = unknown_authority(tmp_path / "unknown") if fault == "unknown authority" else authority
    identity = issuer.issue(hostname, days=1, ago_days=3 if fault == "expired" else 0)
    quiet = "--log-level-console=off --log-level-stderr=error --io-timeout=10 --protocol-timeout=15"
    refused = pgbackrest(host, f"{with_identity(host, identity)} {quiet} repo-ls")
    assert refused.rc != 0 and "ERROR" in refused.stderr, refused.stdout + refused.stderr


def with_identity(host, identity) -> str:
    """Options for a certificate and key, put on the host where pgBackRest's account can read them."""
    paths = []
    for source, name in zip(identity, ("certificate", "key"), strict=True):
        path = f"/run/grunnfjell-pgbackrest/test-{name}.pem"
        with open(source, encoding="utf-8") as file:
            host.check_output(f"printf %s {shlex.quote(file.read())} > {path} && chown postgres {path} && chmod 600 {path}")
        paths.append(path)
    return f"--repo1-host-cert-file={paths[0]} --repo1-host-key-file={paths[1]}"


@database_only
def test_a_database_may_ask_for_no_other_stanza(host, first_backup):
    refused = host.run(
        "runuser -u postgres -- pgbackrest --stanza=other --log-level-console=off --log-level-stderr=error repo-ls"
    )
    assert refused.rc != 0 and "access denied" in refused.stderr.lower(), refused.stderr


@repository_only
@pytest.mark.disruptive
def test_an_incremental_backup_waits_for_another_one(host, peer, first_backup):
    """Two timers may fall together; pgBackRest itself would refuse the second backup."""
    wait_archived(peer)
    before = len(backups(host))
    host.check_output("systemctl start --no-block grunnfjell-backup@diff && systemctl start grunnfjell-backup@incr")
    until("both backups", lambda: len(backups(host)) == before + 2)
    assert host.run("systemctl is-failed grunnfjell-backup@diff grunnfjell-backup@incr").rc != 0
