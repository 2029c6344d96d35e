"""What happens to file backups when something fails or somebody attacks: history stays, and `status` has a sentence."""

from __future__ import annotations

import contextlib
import json
import shlex

import pytest
from authority import REPOSITORY
from file_backups import CLIENT, back_up, recorded, repositories, restic, settings
from intruder import rest
from playbook_runner import play

testinfra_hosts = ["ansible://restic"]
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once]

client_only = pytest.mark.only_on(lambda variables: bool(variables.get("restic_paths")))


def attention(inventory, pattern) -> list[str]:
    """The sentences of `make status` for these hosts. Without a producer in the scenario the playbook ends with a failure."""
    run = play(inventory, "playbooks/status.yml", "--limit", pattern)
    assert "the inventory has no producer" in run.text, run.output
    return json.loads((REPOSITORY / "build/status.json").read_text(encoding="utf-8"))["attention"]


@contextlib.contextmanager
def edited(host, key, value):
    """The settings with another value, and afterwards as they were."""
    changed = json.dumps(settings(host) | {key: value})
    host.check_output(f"cp -p {CLIENT} {CLIENT}.kept && printf %s {shlex.quote(changed)} > {CLIENT}")
    try:
        yield
    finally:
        host.check_output(f"mv {CLIENT}.kept {CLIENT}")


@client_only
def test_root_on_a_host_with_files_can_delete_and_overwrite_nothing(host, store, stores, first_backup):
    """With everything the host knows: login, key and certificate."""
    own = f"/{settings(host)['repository']}/{first_backup[store]['succeeded']['period']}"
    directory = repositories(stores[store])
    before = stores[store].check_output(f"cd {directory}{own} && find . -type f ! -path './locks/*' | sort | xargs sha256sum")
    snapshot = stores[store].check_output(f"ls {directory}{own}/snapshots | head -n 1")
    for path in ("/config", f"/snapshots/{snapshot}"):
        assert rest(host, store, own + path, method="DELETE") == 403
        assert rest(host, store, own + path, method="POST") == 403
    assert rest(host, store, f"{own}/", method="DELETE") in (403, 405)
    assert rest(host, store, f"{own}/locks/../snapshots/{snapshot}", method="DELETE") in (301, 403)
    assert rest(host, store, f"{own}/locks/%2e%2e/snapshots/{snapshot}", method="DELETE") in (301, 403)
    # restic 0.14 retries a refused deletion for a minute.
    forgotten = host.run(f"timeout -k 1 20 /usr/local/lib/grunnfjell/restic --at {store} forget --prune {snapshot[:8]}")
    assert "403" in forgotten.stderr + forgotten.stdout
    restic(host, store, "unlock")
    after = stores[store].check_output(f"cd {directory}{own} && find . -type f ! -path './locks/*' | sort | xargs sha256sum")
    assert set(before.splitlines()) <= set(after.splitlines())
    assert json.loads(restic(host, store, "snapshots --json --no-lock").stdout)


@client_only
def test_after_a_leak_a_new_login_takes_the_place_of_the_old_one(host, inventory, pair, store, fleet_inputs, first_backup):
    """As docs/secrets.md says: another value in the vault, then playbooks/restic.yml."""
    config, period = settings(host), first_backup[store]["succeeded"]["period"]
    path, new = f"/{config['repository']}/{period}/config", "another-login-0123456789"
    known = {name: login for inputs in fleet_inputs.values() for name, login in inputs.get("restic_logins", {}).items()}
    given = {"vault_restic_logins": known | {config["repository"]: new}}
    try:
        assert play(inventory, "playbooks/restic.yml", "--limit", pair, variables=given).returncode == 0
        assert rest(host, store, path, login=f"{config['repository']}:{config['login']}") == 401
        assert "failed" not in back_up(host)[store]
    finally:
        assert play(inventory, "playbooks/restic.yml", "--limit", pair).returncode == 0
    assert rest(host, store, path, login=f"{config['repository']}:{new}") == 401
    assert "failed" not in back_up(host)[store]


@client_only
def test_another_key_reads_nothing_and_status_has_the_reason(host, store, first_backup):
    other = "0123456789abcdef" * 4
    with edited(host, "password", other):
        refused = restic(host, store, "snapshots --no-lock")
        assert refused.rc != 0 and "wrong password" in refused.stderr, refused.stderr
        failed = host.run("systemctl start grunnfjell-restic-backup")
        assert failed.rc != 0
        problem = recorded(host)[store]["failed"]["problem"]
        assert problem == "the repository has another key than restic_password: restore the vault that made it"
    assert "failed" not in back_up(host)[store]


@client_only
def test_a_damaged_byte_is_found_by_check_and_by_the_drill(host, hostname, inventory, pair, store, stores, first_backup):
    own = f"{repositories(stores[store])}/{settings(host)['repository']}/{first_backup[store]['succeeded']['period']}"
    host.check_output("head -c 3000000 /dev/urandom > /var/lib/news/uploads/large.bin")
    back_up(host)
    pack = shlex.quote(
        stores[store].check_output(
            f"find {own}/data -type f -size +500k -printf '%T@ %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2"
        )
    )
    stores[store].check_output(f"cp -p {pack} {pack}.kept")
    try:
        stores[store].check_output(
            f"b=$(($(stat -c %s {pack}) / 3)); dd if={pack} bs=1 skip=$b count=1 status=none | "
            f"tr '\\000-\\377' '\\001-\\377\\000' | dd of={pack} bs=1 seek=$b conv=notrunc status=none"
        )
        assert stores[store].run(f"cmp {pack} {pack}.kept").rc != 0
        checked = restic(host, store, "check --read-data --no-lock")
        assert checked.rc != 0, checked.stdout + checked.stderr
        assert "repository contains errors" in checked.stderr or "damaged pack files" in checked.stdout + checked.stderr
        run = play(inventory, "playbooks/restore_drill.yml", "--limit", pair)
        run.assert_failed(f"{hostname}: the backup of its files is not proved: {store}: ", "cannot be read")
        assert any(f"{hostname}: the last restore drill of its files failed" in line for line in attention(inventory, pair))
    finally:
        stores[store].check_output(f"mv {pack}.kept {pack}")
    assert restic(host, store, "check --read-data --no-lock").rc == 0
    run = play(inventory, "playbooks/restore_drill.yml", "--limit", pair)
    assert run.returncode == 0, run.output


@client_only
def test_a_repository_host_that_is_away_is_in_status_and_the_next_backup_catches_up(
    host, hostname, inventory, pair, store, stores, first_backup
):
    play(inventory, "playbooks/restore_drill.yml", "--limit", pair)
    stores[store].check_output("systemctl stop grunnfjell-restic")
    try:
        host.check_output("date > /var/lib/news/uploads/while-away")
        assert host.run("systemctl start grunnfjell-restic-backup").rc != 0
        known = recorded(host)
        assert "does not answer" in known[store]["failed"]["problem"], known
        # The other repository host, if there is one, has its backup all the same.
        assert all("failed" not in known[name] for name in stores if name != store)
        lines = [line for line in attention(inventory, pair) if line.startswith(hostname)]
        assert any(f"the backup of its files to {store} failed" in line and "does not answer" in line for line in lines), lines
    finally:
        stores[store].check_output("systemctl start grunnfjell-restic")
    assert "failed" not in back_up(host)[store]
    assert "/var/lib/news/uploads/while-away" in restic(host, store, "ls --no-lock latest").stdout
    assert not [line for line in attention(inventory, pair) if "its files" in line]


@client_only
def test_status_complains_about_a_backup_older_than_two_intervals(host, hostname, inventory, pair, store, inputs, first_backup):
    program = (
        "import json, sys, datetime as d; p = sys.argv[1]; k = json.load(open(p)); "
        "k[sys.argv[2]]['succeeded']['at'] = (d.datetime.now(d.UTC) - d.timedelta(hours=int(sys.argv[3]))).isoformat(); "
        "json.dump(k, open(p, 'w'))"
    )
    hours = 2 * inputs["restic_backup_hours"] + 1
    host.check_output(f"python3 -c {shlex.quote(program)} /var/lib/grunnfjell/restic/backups.json {store} {hours}")
    lines = attention(inventory, pair)
    assert any(f"{hostname}: the last backup of its files on {store} is" in line and "two intervals" in line for line in lines), (
        lines
    )
    back_up(host)
    assert not [line for line in attention(inventory, pair) if "two intervals" in line]
