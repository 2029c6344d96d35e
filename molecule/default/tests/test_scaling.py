"""What scaling promises: a program restarts alone, warmly, batch by batch; a host drains and leaves nothing behind."""

from __future__ import annotations

import json

import pytest
from jobs import LONG, RESUME_S, SHORT, ffmpeg_of, programs, settled, until
from operations import absences, assert_nothing_lost_or_cut, clients, edited, overlaps
from playbook_runner import changed
from test_runs import CELERY_WORKERS, play, started

from lab.demo.fleet import Host

pytestmark = [pytest.mark.disruptive, pytest.mark.long]


@pytest.fixture(scope="module")
def inventory(request) -> str:
    return request.config.option.ansible_inventory


def two_programs(concurrency: int) -> tuple[str, str]:
    """Arguments of ansible-playbook: the usual program, with this many processes, and one beside it."""
    declared = [
        {"name": "celery-worker", "concurrency": concurrency},
        {"name": "celery-mail", "queues": ["mail"], "concurrency": 1},
    ]
    return "--extra-vars", json.dumps({"celery_worker_programs": declared})


def sql(database: Host, query: str) -> str:
    return database.run(["env", "--chdir=/", "runuser", "-u", "postgres", "--", "psql", "-XAtd", "postgres", "-c", query])


def test_a_program_that_changes_restarts_alone_warmly_and_batch_by_batch(site, inventory, films, upload):
    workers = site.group("celery_workers")
    try:
        _, said = play(inventory, CELERY_WORKERS, *two_programs(4))
        before = {worker.name: settled(worker) for worker in workers}
        with clients(site, films[SHORT]) as seen, absences(workers, "celery-worker") as times:
            caught = upload(LONG)
            ffmpeg_of(site, caught)
            counts, said = play(inventory, CELERY_WORKERS, *two_programs(3))
        assert set(changed(counts)) == {worker.name for worker in workers}, said
        for worker in workers:
            now = programs(worker)
            assert now["celery-mail"] == before[worker.name]["celery-mail"], said
            assert now["celery-worker"] != before[worker.name]["celery-worker"], said
            children = worker.run(["sh", "-c", "pgrep -c -P $(supervisorctl pid celery-worker) -f celery"])
            assert int(children) == 3
        assert [len(spans) for spans in times.values()] == [1] * len(workers), times
        assert overlaps([span for spans in times.values() for span in spans]) == [], times
        assert_nothing_lost_or_cut(seen, caught)
    finally:
        play(inventory, CELERY_WORKERS)


def test_a_worker_drains_in_mid_task_and_leaves_nothing_behind(site, inventory, films, upload):
    (database,), (broker, *_) = site.group("postgresql"), site.group("rabbitmq")
    before = started(site)
    with clients(site, films[SHORT]) as seen:
        caught = upload(LONG)
        leaver, _ = ffmpeg_of(site, caught)

        def drain(groups: dict) -> None:
            groups["celery_workers"]["hosts"][leaver.name]["celery_worker_state"] = "drained"

        with edited(inventory, drain) as drained:
            counts, said = play(drained, "site.yml")
            assert set(changed(counts)) == {leaver.name}, said
            assert programs(leaver) == {}, said
            asked = f"SELECT count(*) FROM pg_stat_activity WHERE client_addr = '{leaver.address}'"
            until("its pool's end", lambda: sql(database, asked).strip() == "0", 10)
            counts, said = play(drained, "site.yml")
            assert changed(counts) == {}, said
    assert_nothing_lost_or_cut(seen, caught)
    # Its reply and control queues expire by themselves.
    queues = ["rabbitmqctl", "-q", "list_queues", "-p", leaver.application, "name"]
    until("the end of its queues", lambda: f"@{leaver.name}." not in broker.run(queues), RESUME_S)

    def remove(groups: dict) -> None:
        del groups["celery_workers"]["hosts"][leaver.name]

    try:
        with edited(inventory, remove) as smaller:
            counts, said = play(smaller, "site.yml")
            # Whoever it had a way to is closed to it.
            closed = [broker, database, *site.group("producers")]
            assert set(changed(counts)) == {host.name for host in closed}, said
            assert leaver.address not in sql(database, "SELECT address FROM pg_hba_file_rules").split()
            for host in closed:
                assert leaver.address not in host.run(["nft", "list", "table", "inet", "grunnfjell"]), host.name
    finally:
        counts, said = play(inventory, "site.yml")
    now = started(site)
    assert {name: now[name] for name in before if name != leaver.name} == {
        name: before[name] for name in before if name != leaver.name
    }, said
