"""A restore gives back what was there: in a drill beside the repository, and in place."""

from __future__ import annotations

import json

import pytest
from authority import REPOSITORY
from backup_client import backup_status, backups, held, sql, wait_archived
from deadline import until
from playbook_runner import play

testinfra_hosts = ["ansible://pgbackrest"]
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once]

RECORDS = "/var/lib/grunnfjell/pgbackrest"
DRILL_DIRECTORIES = ("/var/lib/pgbackrest/grunnfjell-drill", "/run/grunnfjell-pgbackrest/drill")
database_only = pytest.mark.only_on(lambda variables: bool(variables.get("pgbackrest_repository_hosts")))
# A measured bound for these hosts, which share two cores with each other and with more.
UPLOAD_S = 20


@pytest.fixture
def rows(host):
    """A table with rows, in an application's database."""
    psql = "runuser -u postgres -- psql -XqAtw -v ON_ERROR_STOP=1 -d news -c"

    def ask(statement: str) -> str:
        return host.check_output(f'{psql} "{statement}"')

    ask("DROP TABLE IF EXISTS articles")
    ask("CREATE TABLE articles AS SELECT number, md5(number::text) AS body FROM generate_series(1, 20000) AS number")
    yield ask
    ask("DROP TABLE IF EXISTS articles")


def kept(host) -> list[str]:
    """The data directories that restores have replaced."""
    return host.run("ls -d /var/lib/postgresql/*/main.before-restore-*").stdout.split()


def record_of(repository) -> dict:
    return json.loads(repository.file(f"{RECORDS}/last.json").content_string)


def leftovers(repository) -> list[str]:
    """What a drill must not leave behind."""
    directories = [name for name in DRILL_DIRECTORIES if repository.file(name).exists]
    return directories + repository.run("pgrep -ax postgres").stdout.splitlines()


@database_only
def test_the_weekly_drill_proves_the_last_state_by_itself(host, peer, inventory, pair, rows, first_backup):
    """What its timer starts, without the database and without the control machine."""
    wait_archived(host)
    dated = set(peer.check_output(f"ls {RECORDS}/drills").split())
    peer.check_output("systemctl start grunnfjell-restore-drill")
    record = record_of(peer)
    assert record["proved"] and record["problems"] == [] and not record["compared"], record
    assert record["latest"]["rows"] >= 20000 and record["latest"]["tables"] >= 1 and record["latest"]["rto_s"] > 0, record
    assert 0 <= record["rpo_s"] == record["exposure_s"], record
    assert len(set(peer.check_output(f"ls {RECORDS}/drills").split()) - dated) == 1
    assert leftovers(peer) == []
    report = backup_status(inventory, pair)
    (backup,) = report["backups"].values()
    assert backup["drill"]["proved"] and backup["drill"]["age_s"] < 600, backup
    assert not any("restore" in line for line in report["attention"]), report["attention"]


@database_only
def test_a_drill_that_is_stopped_leaves_nothing_behind(peer, first_backup):
    """As by a shutdown of the host in the middle of it."""
    peer.check_output("systemctl start --no-block grunnfjell-restore-drill")
    until("the database is restored", lambda: peer.run("pgrep -x postgres").rc == 0)
    peer.check_output("systemctl stop grunnfjell-restore-drill")
    assert leftovers(peer) == []


@database_only
def test_a_drill_proves_the_last_state_and_a_moment_and_leaves_nothing_behind(
    host, peer, inputs, inventory, pair, rows, first_backup
):
    dated = set(peer.run(f"ls {RECORDS}/drills").stdout.split())
    run = play(inventory, "playbooks/restore_drill.yml", "--limit", pair)
    assert run.returncode == 0 and not run.changed, run.output
    record = record_of(peer)
    assert record["proved"] and record["problems"] == [] and record["bytes"] > 0
    for kind in ("latest", "point"):
        assert record[kind]["rows"] >= 20000 and record[kind]["tables"] >= 1 and record[kind]["rto_s"] > 0, record
    assert record["rpo_s"] <= inputs["postgresql_parameters"]["archive_timeout"] + UPLOAD_S, record
    report = json.loads((REPOSITORY / "build/restore.json").read_text(encoding="utf-8"))
    assert record in report["repositories"].values()
    assert len(set(peer.run(f"ls {RECORDS}/drills").stdout.split()) - dated) == 1
    assert leftovers(peer) == []


@database_only
def test_a_drill_under_load_loses_no_more_than_promised(host, peer, inputs, inventory, pair, rows, first_backup):
    """Every commit has a row, and the loss is measured against commits that go on."""
    loop = (
        "while [ -e /run/grunnfjell-test-load ]; do "
        "runuser -u postgres -- psql -Xqw -d news -c 'INSERT INTO articles VALUES (0, clock_timestamp()::text)'; done"
    )
    host.check_output(f'touch /run/grunnfjell-test-load; (setsid sh -c "{loop}" >/dev/null 2>&1 &)')
    try:
        until("the load runs", lambda: int(rows("SELECT count(*) FROM articles WHERE number = 0")) > 20)
        run = play(inventory, "playbooks/restore_drill.yml", "--limit", pair)
    finally:
        host.check_output("rm -f /run/grunnfjell-test-load")
    assert run.returncode == 0, run.output
    record = record_of(peer)
    assert record["proved"], record
    assert 0 < record["rpo_s"] <= inputs["postgresql_parameters"]["archive_timeout"] + UPLOAD_S, record


@database_only
def test_a_drill_finds_a_table_that_lost_a_row(host, peer, rows, first_backup):
    """The real drill, with a mark that claims one row more than the table ever had."""
    mark = host.ansible("grunnfjell.platform.pgbackrest_mark", "port=5432", check=False)["mark"]
    for counts in ("before", "after", "at_loss"):
        (claimed,) = [row for row in mark[counts] if row[2] == "articles"]
        claimed[3] += 1
    arguments = {"stanza": "main", "mark": mark, "path": "/run/grunnfjell-pgbackrest/mark.json", "records": RECORDS}
    record = peer.ansible("grunnfjell.platform.pgbackrest_drill", json.dumps(arguments), check=False)["record"]
    assert record == record_of(peer) and not peer.file(arguments["path"]).exists
    lost = "the table public.articles of the database news has 20000 rows, but the live database had 20001"
    assert not record["proved"] and record["problems"] == [f"latest: {lost}", f"point: {lost}"]


@database_only
def test_a_restore_names_its_database_twice_and_a_moment_that_exists(inventory, pair, hostname, first_backup):
    for variables, sentence in (
        ({"restore_to": "latest", "restore_database": hostname}, "name its host in both"),
        ({"restore_to": "2026-11-29 10:00:00"}, "which is neither latest nor a time with its offset"),
    ):
        twice = {"restore_database": hostname, "restore_over": hostname} if len(variables) == 1 else {}
        run = play(inventory, "playbooks/restore.yml", "--limit", pair, variables={**variables, **twice})
        run.assert_refused("Nothing was changed.", sentence)


@database_only
def test_a_delete_is_undone_in_place_and_the_old_data_is_kept(host, peer, inventory, pair, hostname, rows, first_backup):
    timeline, old = wait_archived(host)[:8], set(kept(host))
    before = rows("SELECT clock_timestamp()")
    rows("DELETE FROM articles")
    assert rows("SELECT count(*) FROM articles") == "0"
    count = len(backups(peer))
    variables = {"restore_to": before, "restore_database": hostname, "restore_over": hostname}
    run = play(inventory, "playbooks/restore.yml", "--limit", pair, variables=variables)
    assert run.returncode == 0, run.output
    assert rows("SELECT count(*), max(number) FROM articles") == "20000|20000"
    record = json.loads((REPOSITORY / "build/restore.json").read_text(encoding="utf-8"))["in_place"][hostname]
    assert record["rpo_s"] == 0 and record["rto_s"] > 0 and record["bytes"] > 0 and record["proved_rows"] >= 20000, record
    assert sql(host, "SELECT pg_is_in_recovery()") == "f"
    (directory,) = set(kept(host)) - old
    assert host.file(f"{directory}/PG_VERSION").exists
    assert len(backups(peer)) > count, "no backup of the new timeline"
    # It goes on: WAL of the new timeline arrives, and can be restored as well.
    assert wait_archived(host)[:8] > timeline
    again = play(inventory, "playbooks/restore_drill.yml", "--limit", pair)
    assert again.returncode == 0 and record_of(peer)["proved"], again.output


@database_only
def test_a_lost_data_directory_is_restored_with_what_the_repository_has(host, inventory, pair, hostname, rows, first_backup):
    """Power is cut and the disk is gone: what PostgreSQL would archive in an orderly stop is not there."""
    wait_archived(host)
    data = sql(host, "SHOW data_directory")
    unit = f"postgresql@{data.split('/')[-2]}-main"
    host.check_output(f"systemctl kill --signal=KILL {unit}; systemctl stop {unit}; rm -rf {data}")
    variables = {"restore_to": "latest", "restore_database": hostname, "restore_over": hostname}
    run = play(inventory, "playbooks/restore.yml", "--limit", pair, variables=variables)
    assert run.returncode == 0, run.output
    assert rows("SELECT count(*) FROM articles") == "20000"
    wait_archived(host)


@database_only
def test_a_blank_database_is_refused_until_the_backed_up_one_is_restored(
    host, peer, inventory, pair, hostname, rows, first_backup
):
    """As of a machine that replaces the lost one."""
    wait_archived(host)
    before = held(peer)["backup"]
    version = sql(host, "SHOW data_directory").split("/")[-2]
    host.check_output(f"pg_dropcluster --stop {version} main && pg_createcluster {version} main")
    built = play(inventory, "playbooks/postgresql.yml", "--limit", pair)
    assert built.returncode == 0, built.output
    run = play(inventory, "playbooks/pgbackrest.yml", "--limit", pair)
    run.assert_failed("is not the database whose backups are in the stanza main", f"restore_over={hostname}")
    assert held(peer)["backup"] == before
    variables = {"restore_to": "latest", "restore_database": hostname, "restore_over": hostname}
    run = play(inventory, "playbooks/restore.yml", "--limit", pair, variables=variables)
    assert run.returncode == 0, run.output
    assert rows("SELECT count(*) FROM articles") == "20000"
    run = play(inventory, "playbooks/pgbackrest.yml", "--limit", pair)
    assert run.returncode == 0 and before == held(peer)["backup"][: len(before)], run.output


@database_only
def test_a_restore_that_fails_puts_the_old_data_back(host, peer, inventory, pair, hostname, rows, first_backup):
    """The repository host is asked first, so it goes away only once the restore has begun."""
    peer.check_output("cp -a /var/lib/pgbackrest/backup /var/lib/pgbackrest-kept")
    try:
        peer.check_output("find /var/lib/pgbackrest/backup/main -path '*bundle*' -type f -delete")
        variables = {"restore_to": "latest", "restore_database": hostname, "restore_over": hostname}
        run = play(inventory, "playbooks/restore.yml", "--limit", pair, variables=variables)
        run.assert_failed("The restore failed", "The data from before is in place and PostgreSQL was started with it.")
    finally:
        peer.check_output("rm -r /var/lib/pgbackrest/backup && mv /var/lib/pgbackrest-kept /var/lib/pgbackrest/backup")
    until("PostgreSQL answers", lambda: host.run("runuser -u postgres -- psql -XAtc 'SELECT 1'").stdout.strip() == "1")
    assert rows("SELECT count(*) FROM articles") == "20000"
