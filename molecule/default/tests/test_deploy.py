"""What a deploy promises: clients and running tasks do not notice it, and a bad release gets no further than its first batch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from following import LONG, SHORT, ffmpeg_of
from operating import (
    assert_nothing_lost_or_cut,
    clients,
    process_ids,
    release_of,
    releases_run_by,
)
from rollouts import newsroom_with
from test_runs import play

from lab.demo.fleet import Host

pytestmark = [pytest.mark.disruptive, pytest.mark.long]

DEPLOY = "playbooks/deploy.yml"
PREVIOUS = ("--extra-vars", "release=previous")


@pytest.fixture(scope="module")
def inventory(request) -> str:
    return request.config.option.ansible_inventory


@pytest.fixture(scope="module")
def hosts(site) -> list[Host]:
    return [host for host in site.hosts if host.application]


@pytest.fixture(autouse=True)
def the_release_of_the_inventory(hosts, inventory) -> Iterator[str]:
    """It runs before each test, and again after it even if the test did not get that far."""
    (before,) = {release_of(host) for host in hosts}
    yield before
    if {release for host in hosts for release in releases_run_by(host)} != {before}:
        _, said = play(inventory, DEPLOY)
        assert {release_of(host) for host in hosts} == {before}, said


def test_a_deploy_and_its_rollback_go_unnoticed(site, hosts, inventory, films, upload, tmp_path, the_release_of_the_inventory):
    before = the_release_of_the_inventory
    new = newsroom_with(tmp_path, "web.py", 'jsonify(status="ok")', 'jsonify(status="ok", tested=True)')
    with clients(site, films[SHORT]) as seen:
        deployed_during, rolled_back_during = upload(LONG), None
        ffmpeg_of(site, deployed_during)
        counts, said = play(inventory, DEPLOY, *new)
        assert not any(count["failed"] for count in counts.values()), said
        (after,) = {release_of(host) for host in hosts}
        assert after != before and all(releases_run_by(host) == {after} for host in hosts), said

        rolled_back_during = upload(LONG)
        ffmpeg_of(site, rolled_back_during)
        counts, said = play(inventory, DEPLOY, *PREVIOUS)
        assert not any(count["failed"] for count in counts.values()), said
        assert all(releases_run_by(host) == {before} for host in hosts), said
    assert {release_of(host) for host in hosts} == {before}
    assert_nothing_lost_or_cut(seen, deployed_during, rolled_back_during)


def test_a_release_that_breaks_the_promise_is_taken_back_from_its_first_batch(site, hosts, inventory, tmp_path):
    before = {host.name: (release_of(host), releases_run_by(host)) for host in hosts}
    first, *others = site.group("celery_workers")
    untouched = {host.name: process_ids(host) for host in (*others, *site.group("producers"))}
    counts, said = play(
        inventory, DEPLOY, *newsroom_with(tmp_path, "tasks.py", "ignore_result=True", "ignore_result=True, acks_late=False")
    )
    assert "the task newsroom.tasks.transcode sets acks_late=False" in said, said
    assert [name for name, count in counts.items() if count["failed"]] == [first.name], said
    assert {host.name: (release_of(host), releases_run_by(host)) for host in hosts} == before, said
    assert {host.name: process_ids(host) for host in (*others, *site.group("producers"))} == untouched, said


def test_a_web_release_that_does_not_answer_meets_no_client_and_its_workers_go_back(
    site, hosts, inventory, films, tmp_path, the_release_of_the_inventory
):
    before = the_release_of_the_inventory
    producers = site.group("producers")
    untouched = {host.name: process_ids(host) for host in producers}
    with clients(site, films[SHORT]) as seen:
        counts, said = play(inventory, DEPLOY, *newsroom_with(tmp_path, "web.py", 'jsonify(status="ok")', "abort(500)"))
        assert "no client was connected to it" in said, said
        assert [name for name, count in counts.items() if count["failed"]] == [producers[0].name], said
        assert {host.name: process_ids(host) for host in producers} == untouched, said
        assert {release_of(host) for host in producers} == {before}

        # The workers went first and stand; a rollback finds what the producers still run.
        assert before not in {release_of(host) for host in site.group("celery_workers")}
        counts, said = play(inventory, DEPLOY, *PREVIOUS)
        assert not any(count["failed"] for count in counts.values()), said
    assert all(releases_run_by(host) == {before} for host in hosts), said
    assert_nothing_lost_or_cut(seen)
