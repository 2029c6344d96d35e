"""What scaling promises: a program restarts alone, gracefully, batch by batch; a host drains and leaves nothing behind."""

from __future__ import annotations

import pytest
from deadline import until
from jobs import LONG, RESUME_S, SHORT, ffmpeg_of, programs, settled
from operations import CELERY_WORKERS, absences, assert_nothing_lost_or_interrupted, clients, edited, overlaps, started
from playbook_runner import play

from lab.demo.fleet import Host

pytestmark = [pytest.mark.disruptive, pytest.mark.long]


def two_programs(concurrency: int) -> dict[str, list]:
    """The usual program, with this many processes, and a second one."""
    mail = {"name": "celery-mail", "queues": ["mail"], "concurrency": 1}
    return {"celery_worker_programs": [{"name": "celery-worker", "concurrency": concurrency}, mail]}


def sql(database: Host, query: str) -> str:
    return database.run(["env", "--chdir=/", "runuser", "-u", "postgres", "--", "psql", "-XAtd", "postgres", "-c", query])


def test_a_changed_program_restarts_alone_gracefully_and_batch_by_batch(site, inventory, films, upload):
    workers = site.group("celery_workers")
    try:
        play(inventory, CELERY_WORKERS, variables=two_programs(4))
        before = {worker.name: settled(worker) for worker in workers}
        with clients(site, films[SHORT]) as record, absences(workers, "celery-worker") as times:
            caught = upload(LONG)
            ffmpeg_of(site, caught)
            run = play(inventory, CELERY_WORKERS, variables=two_programs(3))
        assert set(run.changed) == {worker.name for worker in workers}, run.output
        for worker in workers:
            now = programs(worker)
            assert now["celery-mail"] == before[worker.name]["celery-mail"], run.output
            assert now["celery-worker"] != before[worker.name]["celery-worker"], run.output
            children = worker.run(["sh", "-c", "pgrep -c -P $(supervisorctl pid celery-worker) -f celery"])
            assert int(children) == 3
        assert [len(spans) for spans in times.values()] == [1] * len(workers), times
        assert overlaps([span for spans in times.values() for span in spans]) == [], times
        assert_nothing_lost_or_interrupted(record, caught)
    finally:
        play(inventory, CELERY_WORKERS)


def test_a_worker_drains_during_a_task_and_leaves_nothing_behind(site, inventory, films, upload):
    (database,), (broker, *_) = site.group("postgresql"), site.group("rabbitmq")
    before = started(site)
    with clients(site, films[SHORT]) as record:
        caught = upload(LONG)
        leaver, _ = ffmpeg_of(site, caught)

        def drain(groups: dict) -> None:
            groups["celery_workers"]["hosts"][leaver.name]["celery_worker_state"] = "drained"

        with edited(inventory, drain) as drained:
            run = play(drained, "site.yml")
            assert set(run.changed) == {leaver.name}, run.output
            assert programs(leaver) == {}, run.output
            sessions = f"SELECT count(*) FROM pg_stat_activity WHERE client_addr = '{leaver.address}'"
            until("the end of its pool", lambda: sql(database, sessions).strip() == "0", 10)
            run = play(drained, "site.yml")
            assert run.changed == {}, run.output
    assert_nothing_lost_or_interrupted(record, caught)
    # Its reply and control queues expire.
    queues = ["rabbitmqctl", "-q", "list_queues", "-p", leaver.application, "name"]
    until("the end of its queues", lambda: f"@{leaver.name}." not in broker.run(queues), RESUME_S)

    def remove(groups: dict) -> None:
        del groups["celery_workers"]["hosts"][leaver.name]

    try:
        with edited(inventory, remove) as smaller:
            run = play(smaller, "site.yml")
            peers = [broker, database, *site.group("producers")]
            assert set(run.changed) == {host.name for host in peers}, run.output
            assert leaver.address not in sql(database, "SELECT address FROM pg_hba_file_rules").split()
            for host in peers:
                assert leaver.address not in host.run(["nft", "list", "table", "inet", "grunnfjell"]), host.name
    finally:
        run = play(inventory, "site.yml")
    now = started(site)
    others = before.keys() - {leaver.name}
    assert {name: now[name] for name in others} == {name: before[name] for name in others}, run.output
