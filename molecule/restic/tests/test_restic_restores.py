"""A restore gives back what was there: beside the live files, in their place, and in a drill."""

from __future__ import annotations

import json

import pytest
from authority import REPOSITORY
from file_backups import RECORD, back_up, backed_up, restic
from playbook_runner import play

testinfra_hosts = ["ansible://restic"]
pytestmark = [pytest.mark.scenario, pytest.mark.disruptive, pytest.mark.once]

client_only = pytest.mark.only_on(lambda variables: bool(variables.get("restic_paths")))
store_only = pytest.mark.only_on(lambda variables: bool(variables.get("restic_repositories")))

UPLOADS = "/var/lib/news/uploads"
OWNERS = "find . | sort | xargs -d '\\n' stat --format '%n %U %a %Y'"
DIGESTS = "find . -type f -print0 | sort -z | xargs -0 sha256sum"


def state(host, path) -> str:
    """Names, owners, modes, times and contents below a path."""
    return host.check_output(f"cd {path} && {OWNERS} && {DIGESTS}")


def aside(host, kind) -> list[str]:
    return host.run(f"ls -d {UPLOADS}.{kind}-*").stdout.split()


@pytest.fixture
def restore(inventory, pair, hostname):
    def run(*arguments: str, **variables: str):
        return play(
            inventory,
            "playbooks/restore_files.yml",
            "--limit",
            pair,
            *arguments,
            variables={"restore_host": hostname} | variables,
        )

    return run


@pytest.fixture
def tidy(host):
    """Nothing beside the uploads before and after."""
    host.run(f"rm -rf {UPLOADS}.restored-* {UPLOADS}.before-restore-*")
    yield
    host.run(f"rm -rf {UPLOADS}.restored-* {UPLOADS}.before-restore-*")


@client_only
def test_a_directory_comes_back_beside_the_live_one(host, restore, tidy, first_backup):
    host.check_output(f"mkdir -p {UPLOADS}/deeper/still && date > {UPLOADS}/deeper/still/caption")
    before, files = state(host, UPLOADS), host.check_output(f"find {UPLOADS} -type f | wc -l")
    back_up(host)
    host.check_output(f"mv {UPLOADS}/film.mp4 /var/lib/film.kept && date > {UPLOADS}/later")
    try:
        run = restore(restore_path=UPLOADS)
        assert run.returncode == 0, run.output
        assert f"{files} files, " in run.output, run.output
        (restored,) = aside(host, "restored")
        assert restored.rpartition("/")[2] in run.output, run.output
        assert state(host, restored) == before
        assert host.file(f"{UPLOADS}/later").exists and not host.file(f"{UPLOADS}/film.mp4").exists
        assert host.run("ls -d /var/lib/news/.grunnfjell-restore-*").stdout == ""
    finally:
        host.check_output(f"mv /var/lib/film.kept {UPLOADS}/film.mp4 && rm -r {UPLOADS}/later {UPLOADS}/deeper")


@client_only
def test_a_deletion_is_undone_in_place_and_what_was_there_is_kept(host, restore, tidy, first_backup):
    back_up(host)
    before = state(host, UPLOADS)
    moment = host.check_output("date --iso-8601=ns").replace(",", ".")
    host.check_output(f"rm -r {UPLOADS}/* && date > {UPLOADS}/later")
    back_up(host)
    refused = restore(restore_path=UPLOADS, restore_to=moment, restore_over="/var/lib/news")
    refused.assert_failed("Nothing was replaced.", "name the same path in both")
    assert host.check_output(f"ls {UPLOADS}") == "later"
    run = restore(restore_path=UPLOADS, restore_to=moment, restore_over=UPLOADS)
    assert run.returncode == 0, run.output
    assert state(host, UPLOADS) == before
    (kept,) = aside(host, "before-restore")
    assert host.check_output(f"ls {kept}") == "later"
    back_up(host)


@client_only
def test_a_blank_machine_backs_nothing_up_until_the_files_of_its_predecessor_are_back(
    host, inventory, pair, restore, tidy, first_backup
):
    """Its backup would be the latest one."""
    back_up(host)
    before = state(host, UPLOADS)
    host.check_output(f"mv {UPLOADS} /var/lib/uploads.kept && mkdir {UPLOADS} && mv {RECORD} {RECORD}.kept")
    try:
        run = play(inventory, "playbooks/restic.yml", "--limit", pair)
        run.assert_failed("holds files of the machine that this one replaces", "playbooks/restore_files.yml")
        assert host.run("systemctl start grunnfjell-restic-backup").rc != 0
        run = restore(restore_path=UPLOADS, restore_over=UPLOADS)
        assert run.returncode == 0, run.output
        assert state(host, UPLOADS) == before
        run = play(inventory, "playbooks/restic.yml", "--limit", pair)
        assert run.returncode == 0, run.output
    finally:
        host.check_output(f"rm -r {UPLOADS} && mv /var/lib/uploads.kept {UPLOADS} && mv {RECORD}.kept {RECORD}")


@client_only
def test_one_file_with_an_awkward_name_comes_back(host, restore, tidy, first_backup):
    name = f"{UPLOADS}/a name with [signs].jpg"
    digest = host.check_output(f"sha256sum < '{name}'")
    run = restore(restore_path=name)
    assert run.returncode == 0, run.output
    try:
        (restored,) = host.check_output(f"ls -d {UPLOADS}/a\\ name*.restored-*").splitlines()
        assert host.check_output(f"sha256sum < '{restored}'") == digest
    finally:
        host.check_output(f"rm {UPLOADS}/*.restored-*")


@client_only
@pytest.mark.parametrize(
    "variables, sentence",
    [
        ({"restore_path": "/var/lib/nothing"}, "does not hold /var/lib/nothing. It holds: /var/lib/news."),
        ({"restore_path": "var/lib/news"}, "which is not the absolute path"),
        ({"restore_path": UPLOADS, "restore_to": "2001-01-01 00:00:00+00:00"}, "has no backup of this host from before"),
        ({"restore_path": UPLOADS, "restore_to": "yesterday"}, "which is not a moment with its offset from UTC"),
        ({"restore_path": UPLOADS, "restore_at": "web-0"}, "restore_at is 'web-0', which is not one of"),
        ({"restore_path": UPLOADS, "restore_host": "store"}, "restore_host is 'store', but must be a host of this run"),
    ],
)
def test_a_restore_that_cannot_work_changes_nothing(host, restore, first_backup, variables, sentence):
    before = state(host, "/var/lib/news")
    restore(**variables).assert_failed(sentence)
    assert state(host, "/var/lib/news") == before


@client_only
def test_check_mode_restores_nothing(host, restore, first_backup):
    before = state(host, "/var/lib/news")
    run = restore("--check", restore_path=UPLOADS)
    assert run.returncode == 0, run.output
    assert state(host, "/var/lib/news") == before


@client_only
def test_a_drill_opens_files_compares_them_and_leaves_nothing_behind(host, hostname, inventory, pair, first_backup):
    back_up(host)
    before = state(host, "/var/lib/news")
    run = play(inventory, "playbooks/restore_drill.yml", "--limit", pair)
    assert run.returncode == 0 and not run.changed, run.output
    record = json.loads((REPOSITORY / "build/restore.json").read_text(encoding="utf-8"))["files"][hostname]
    assert record["proved"] and record["problems"] == [] and record["files_opened"] >= 2 and record["bytes"] >= 600000
    assert json.loads(host.file("/var/lib/grunnfjell/restic/drill.json").content_string) == record
    assert state(host, "/var/lib/news") == before


@client_only
def test_a_drill_finds_a_file_that_was_changed_behind_its_time(host, hostname, inventory, pair, first_backup):
    back_up(host)
    file = f"{UPLOADS}/film.mp4"
    host.check_output(f"cp -p {file} /var/lib/film.kept && printf x | dd of={file} bs=1 seek=100 conv=notrunc status=none")
    host.check_output(f"touch --reference=/var/lib/film.kept {file}")
    try:
        run = play(inventory, "playbooks/restore_drill.yml", "--limit", pair)
        run.assert_failed(f"{hostname}: the backup of its files is not proved: ", f"{file} differs from the backup of")
    finally:
        host.check_output(f"mv /var/lib/film.kept {file}")


@store_only
def test_the_retention_deletes_old_repositories_and_keeps_the_newest_of_a_host(host, hostname, fleet, inputs):
    """By the times of this host's clock."""
    name, path, days = inputs["restic_repositories"][0], inputs["restic_path"], inputs["restic_retention_days"]
    newest = backed_up(fleet[name])[hostname]["succeeded"]["period"]
    home, former = f"{path}/{name}", f"{path}/left-the-fleet"
    as_server = "runuser -u grunnfjell-restic --"
    host.check_output(f"{as_server} cp -a {home}/{newest} {home}/2020-01 && {as_server} cp -a {home} {former}")
    # Of the former host one repository is old enough, of the current one both are.
    for repository in (f"{home}/2020-01", f"{home}/{newest}", f"{former}/2020-01"):
        host.check_output(f"find {repository} -exec touch --date '{days + 1} days ago' {{}} +")
    host.check_output(f"find {home}/2020-01 -exec touch --date '{days + 2} days ago' {{}} +")
    try:
        host.check_output("systemctl start grunnfjell-restic-retention")
        assert host.check_output(f"ls {home}") == newest
        assert host.check_output(f"ls {former}") == newest
        host.check_output(f"find {former}/{newest} -exec touch --date '{days + 1} days ago' {{}} +")
        host.check_output("systemctl start grunnfjell-restic-retention")
        assert host.check_output(f"ls {former}") == ""
    finally:
        host.check_output(f"rm -rf {former} {home}/2020-01 && find {home}/{newest} -exec touch {{}} +")
    assert json.loads(restic(fleet[name], hostname, "snapshots --json --no-lock").stdout)
