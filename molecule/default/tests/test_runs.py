"""What a run of site.yml promises: it changes what differs, restarts nothing else, and refuses before any change."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deadline import until
from jobs import RESUME_S, assert_works, programs, settled
from operations import AS_ROOT, CELERY_WORKERS, started
from playbook_runner import play

from lab.demo import fleet
from lab.machine import REPOSITORY

pytestmark = pytest.mark.disruptive

MORE = REPOSITORY / "inventories/lab-more"


def test_a_second_run_changes_nothing_and_restarts_nothing(site, inventory):
    before = started(site)
    run = play(inventory, "site.yml")
    assert run.returncode == 0 and run.recap, run.output
    assert run.changed == {}, run.output
    assert started(site) == before


def test_check_mode_predicts_that_nothing_would_change(site, inventory):
    before = started(site)
    run = play(inventory, "site.yml", "--check", "--diff")
    assert run.returncode == 0 and run.recap, run.output
    assert run.changed == {}, run.output
    assert started(site) == before


def test_a_wrong_input_is_refused_before_any_host_changes(site, inventory):
    before = started(site)
    wrong = {"rabbitmq_disk_free_limit": 100000}
    run = play(inventory, "site.yml", variables=wrong | {"celery_worker_concurency": 8})
    run.assert_refused("Did you mean celery_worker_concurrency?")
    play(inventory, "site.yml", "--tags", "pgbouncer", variables=wrong).assert_refused("rabbitmq_disk_free_limit")
    assert started(site) == before


@pytest.fixture
def larger_inventory() -> Iterator[Path]:
    """The lab's inventory with one more line. Removes that host's container afterwards."""
    hosts = yaml.safe_load((REPOSITORY / "inventories/lab/hosts.yml").read_text(encoding="utf-8"))
    hosts["all"]["children"]["celery_workers"]["hosts"]["worker3"] = {"ansible_host": "10.77.0.33"}
    shutil.rmtree(MORE, ignore_errors=True)
    MORE.mkdir()
    (MORE / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    (MORE / "group_vars").symlink_to("../lab/group_vars")
    yield MORE
    subprocess.run([*AS_ROOT, "podman", "rm", "--force", "--time", "60", "grunnfjell-worker3"], check=False, capture_output=True)
    shutil.rmtree(MORE)


# How many tasks change on the hosts that admit a new worker, or no longer admit a former one.
ADMITTING = {"broker1": 1, "db1": 2, "web1": 1}


def test_a_further_host_is_one_more_line_and_restarts_nothing_else(site, inventory, larger_inventory, upload):
    before = started(site)
    play(larger_inventory, "lab/create.yml", prefix=AS_ROOT)
    run = play(larger_inventory, "site.yml")
    assert run.recap["worker3"]["failed"] == 0 and run.recap["worker3"]["changed"], run.output
    # The peers of the new host get a firewall rule, the database also a reload; other hosts do not change.
    assert run.changed == ADMITTING | {"worker3": run.recap["worker3"]["changed"]}, run.output
    assert started(site) == before

    (worker,) = [host for host in fleet.read(str(larger_inventory)).hosts if host.name == "worker3"]
    assert_works(worker, upload)

    # A host that leaves the inventory is no longer admitted.
    run = play(inventory, "site.yml")
    assert run.changed == ADMITTING, run.output
    assert started(site) == before


def test_a_task_that_breaks_the_promise_is_refused_by_name_unless_waived(inventory, tmp_path):
    shutil.copytree(REPOSITORY / "examples/newsroom", tmp_path / "newsroom", ignore=shutil.ignore_patterns("__pycache__"))
    tasks = tmp_path / "newsroom/newsroom/tasks.py"
    tasks.write_text(tasks.read_text().replace("ignore_result=True", "ignore_result=True, acks_late=False"))
    source = {"application_source": {"directory": str(tmp_path / "newsroom")}}
    # On one host only, because each would be restarted twice.
    limit = ("--limit", "worker1")
    try:
        run = play(inventory, CELERY_WORKERS, *limit, variables=source)
        assert run.recap["worker1"]["failed"] == 1, run.output
        assert "the task newsroom.tasks.transcode sets acks_late=False" in run.output, run.output
        waiver = {"application_waivers": {"task_acks_late": "a test"}}
        run = play(inventory, CELERY_WORKERS, *limit, variables=source | waiver)
        assert run.recap["worker1"]["failed"] == 0, run.output
    finally:
        run = play(inventory, CELERY_WORKERS, *limit)
    assert run.returncode == 0, run.output


def test_a_program_that_leaves_the_inventory_leaves_the_host(site, inventory):
    (worker,) = [host for host in site.hosts if host.name == "worker1"]
    before = settled(worker)
    two = {"celery_worker_programs": [{"name": "celery-worker"}, {"name": "celery-mail", "queues": ["mail"], "concurrency": 1}]}
    run = play(inventory, CELERY_WORKERS, "--limit", "worker1", variables=two)
    until("both programs", lambda: sorted(programs(worker)) == ["celery-mail", "celery-worker"], RESUME_S)
    assert programs(worker)["celery-worker"] == before["celery-worker"], f"the other program was restarted\n{run.output}"
    run = play(inventory, CELERY_WORKERS, "--limit", "worker1")
    assert programs(worker) == before, run.output
