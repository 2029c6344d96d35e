"""What a deploy promises: clients and running tasks do not notice it, and a bad release stops in its first batch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from jobs import LONG, SHORT, ffmpeg_of
from operations import assert_nothing_lost_or_interrupted, clients, process_ids, release_of, releases_run_by
from playbook_runner import play
from rollouts import REFUSED_AT_THE_START, newsroom_that_breaks_the_promise_at_its_start, newsroom_with

from lab.demo.fleet import Host

pytestmark = [pytest.mark.disruptive, pytest.mark.long]

DEPLOY = "playbooks/deploy.yml"
PREVIOUS = ("--extra-vars", "release=previous")


@pytest.fixture(scope="module")
def hosts(site) -> list[Host]:
    return [host for host in site.hosts if host.application]


@pytest.fixture(autouse=True)
def current_release(hosts, inventory) -> Iterator[str]:
    """The release before each test. Deployed again if the test leaves another one."""
    (before,) = {release_of(host) for host in hosts}
    yield before
    if {release for host in hosts for release in releases_run_by(host)} != {before}:
        run = play(inventory, DEPLOY)
        assert {release_of(host) for host in hosts} == {before}, run.output


def test_clients_do_not_notice_a_deploy_and_its_rollback(site, hosts, inventory, films, upload, tmp_path, current_release):
    before = current_release
    new = newsroom_with(tmp_path, "web.py", 'jsonify(status="ok")', 'jsonify(status="ok", tested=True)')
    with clients(site, films[SHORT]) as record:
        deployed_during, rolled_back_during = upload(LONG), None
        ffmpeg_of(site, deployed_during)
        run = play(inventory, DEPLOY, *new)
        assert run.returncode == 0, run.output
        (after,) = {release_of(host) for host in hosts}
        assert after != before and all(releases_run_by(host) == {after} for host in hosts), run.output

        rolled_back_during = upload(LONG)
        ffmpeg_of(site, rolled_back_during)
        run = play(inventory, DEPLOY, *PREVIOUS)
        assert run.returncode == 0, run.output
        assert all(releases_run_by(host) == {before} for host in hosts), run.output
    assert {release_of(host) for host in hosts} == {before}
    assert_nothing_lost_or_interrupted(record, deployed_during, rolled_back_during)


def test_a_release_that_breaks_the_promise_at_its_start_is_rolled_back_in_its_first_batch(site, hosts, inventory, tmp_path):
    before = {host.name: (release_of(host), releases_run_by(host)) for host in hosts}
    first, *others = site.group("celery_workers")
    untouched = {host.name: process_ids(host) for host in (*others, *site.group("producers"))}
    run = play(inventory, DEPLOY, *newsroom_that_breaks_the_promise_at_its_start(tmp_path))
    run.assert_failed(REFUSED_AT_THE_START)
    assert run.failed == [first.name], run.output
    assert {host.name: (release_of(host), releases_run_by(host)) for host in hosts} == before, run.output
    assert {host.name: process_ids(host) for host in (*others, *site.group("producers"))} == untouched, run.output


def test_a_web_release_that_does_not_answer_meets_no_client_and_its_workers_are_rolled_back(
    site, hosts, inventory, films, tmp_path, current_release
):
    before = current_release
    producers = site.group("producers")
    untouched = {host.name: process_ids(host) for host in producers}
    with clients(site, films[SHORT]) as record:
        run = play(inventory, DEPLOY, *newsroom_with(tmp_path, "web.py", 'jsonify(status="ok")', "abort(500)"))
        assert "no client was connected to it" in run.output, run.output
        assert run.failed == [producers[0].name], run.output
        assert {host.name: process_ids(host) for host in producers} == untouched, run.output
        assert {release_of(host) for host in producers} == {before}

        # The workers, which go first, run the new release; a rollback takes the release that the producers still run.
        assert before not in {release_of(host) for host in site.group("celery_workers")}
        run = play(inventory, DEPLOY, *PREVIOUS)
        assert run.returncode == 0, run.output
    assert all(releases_run_by(host) == {before} for host in hosts), run.output
    assert_nothing_lost_or_interrupted(record)
