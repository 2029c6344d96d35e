"""What role restic promises of the running services, on both ends."""

from __future__ import annotations

import json

import pytest
from deadline import until
from file_backups import CLIENT, PROGRAM, restic, settings
from intruder import rest
from playbook_runner import play

testinfra_hosts = ["ansible://restic"]

client_only = pytest.mark.only_on(lambda variables: bool(variables.get("restic_paths")))
store_only = pytest.mark.only_on(lambda variables: bool(variables.get("restic_repositories")))


@store_only
def test_the_server_runs_and_comes_back_at_boot_and_after_a_crash(host):
    service = host.service("grunnfjell-restic")
    assert service.is_running and service.is_enabled
    assert service.systemd_properties["Restart"] == "always"
    assert service.systemd_properties["NeedDaemonReload"] == "no"
    assert service.systemd_properties["User"] == "grunnfjell-restic"


@store_only
def test_the_server_listens_on_its_declared_address_only(host, inputs):
    port = inputs["restic_port"]
    listening = host.check_output(f"ss -ltnH sport = :{port} | awk '{{print $4}}'").split()
    assert listening == [f"{inputs['restic_listen_address']}:{port}"]


@store_only
def test_the_repository_host_knows_neither_a_login_nor_a_key(host, fleet, inputs):
    """Only hashes of the logins, whatever root on it searches."""
    for name in inputs["restic_repositories"]:
        config = settings(fleet[name])
        for secret in (config["login"], config["password"]):
            assert host.run(f"grep -rlF {secret} /etc /var/lib /usr/local /run").stdout == ""
    hashes = host.check_output("cat /etc/grunnfjell/restic/logins").splitlines()
    assert [line.split(":")[0] for line in hashes] == inputs["restic_repositories"]


@store_only
def test_only_the_server_reads_the_repositories_and_the_logins(host, inputs):
    for path in (inputs["restic_path"], "/etc/grunnfjell/restic/logins"):
        assert host.file(path).group == "grunnfjell-restic" and host.run(f"runuser -u nobody -- cat {path}").rc != 0
    assert oct(host.file(inputs["restic_path"]).mode) == "0o700"


@client_only
def test_only_root_reads_login_and_key(host):
    file = host.file(CLIENT)
    assert (file.user, file.group, oct(file.mode)) == ("root", "root", "0o600")


@client_only
def test_the_first_backup_is_taken_without_being_asked_for(host, inputs, first_backup):
    for name, known in first_backup.items():
        assert known["succeeded"]["files"] >= 2 and known["succeeded"]["unread"] == 0, name
        snapshots = json.loads(restic(host, name, "snapshots --json --no-lock").stdout)
        assert snapshots[-1]["paths"] == inputs["restic_paths"]


@client_only
@pytest.mark.scenario
@pytest.mark.one_host
def test_the_plan_counts_the_repositories_on_their_disk(inventory, hostname, pair, first_backup):
    run = play(inventory, "playbooks/plan.yml", "--limit", pair)
    assert run.returncode == 0 and "disk of the repository" in run.text, run.output
    assert f"repositories of {hostname}" in run.text, run.output


@client_only
@pytest.mark.disruptive
def test_what_is_excluded_is_in_no_backup(host, inputs, store, first_backup):
    host.check_output("systemctl start grunnfjell-restic-backup")
    listed = restic(host, store, "ls --no-lock latest").stdout
    assert "/var/lib/news/uploads/film.mp4" in listed
    assert ("/var/lib/news/cache/again.tmp" in listed) == (inputs["restic_exclude"] == [])


@client_only
def test_the_backup_has_its_times_with_jitter(host, inputs):
    timer = host.service("grunnfjell-restic-backup.timer")
    assert timer.is_running and timer.is_enabled
    properties = timer.systemd_properties
    expected = {24: "*-*-* 00:15:00", 12: "*-*-* 00/12:15:00"}[inputs["restic_backup_hours"]]
    assert expected in properties["TimersCalendar"]
    assert properties["RandomizedDelayUSec"] == "10min" and properties["Persistent"] == "yes"
    assert properties["NextElapseUSecRealtime"], properties


@client_only
@pytest.mark.disruptive
def test_the_program_shows_no_secret_in_its_arguments(host, store, first_backup):
    """While it runs, anyone on the host reads its arguments. This one waits for its standard input, and stores nothing."""
    config = settings(host)
    host.check_output(
        f"(setsid sh -c 'timeout 30 tail -f /dev/null | {PROGRAM} --at {store} backup --stdin --dry-run' >/dev/null 2>&1 &)"
    )
    seen = until("restic runs", lambda: host.run("ps -e -o args= | grep '^/usr/bin/restic '").stdout)
    assert config["login"] not in seen and config["password"] not in seen


@client_only
def test_each_login_reaches_its_repository_only(host, store, first_backup):
    config, period = settings(host), first_backup[store]["succeeded"]["period"]
    own = f"/{config['repository']}/{period}"
    assert rest(host, store, f"{own}/config") == 200
    for other in ("/web-0", "/store", f"/{config['repository']}x"):
        for path in (f"{other}/{period}/config", f"{other}/{period}/snapshots/"):
            assert rest(host, store, path) == 403, path
        assert rest(host, store, f"{other}/{period}/?create=true", method="POST") == 403


@client_only
def test_a_request_without_the_login_or_a_certificate_is_refused(host, store, first_backup):
    config, period = settings(host), first_backup[store]["succeeded"]["period"]
    path = f"/{config['repository']}/{period}/config"
    assert rest(host, store, path, login=f"{config['repository']}:wrong") == 401
    assert rest(host, store, path, login=f"web-0:{config['login']}") == 401
    assert rest(host, store, path, certificate=False) == 0


@store_only
def test_old_repositories_are_deleted_by_a_timer(host, inputs):
    timer = host.service("grunnfjell-restic-retention.timer")
    assert timer.is_running and timer.is_enabled
    command = host.check_output("systemctl show grunnfjell-restic-retention --property=ExecStart")
    expected = f"{inputs['restic_path']} {inputs['restic_retention_days']} {' '.join(inputs['restic_repositories'])}"
    assert f"restic-retention {expected} ;" in command


def test_a_host_that_left_has_no_login_key_or_timer(host, inventory, hostname, runs, fleet):
    """After the inventory gave the role to fewer hosts. Its repository stays until the retention deletes it."""
    gone = [name for name, other in fleet.items() if not other.file(CLIENT).exists and name.startswith("old")]
    if len(runs) < 5:
        assert gone == []
        return
    for name in gone:
        left = fleet[name].run(
            "ls -d /etc/grunnfjell/restic/* /etc/systemd/system/grunnfjell-restic* /usr/local/lib/grunnfjell/restic*"
        )
        assert left.stdout == "", left.stdout
        assert fleet[name].run("systemctl list-timers --all --plain | grep restic").stdout == ""
