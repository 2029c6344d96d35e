"""What a run of site.yml promises: it changes what differs, restarts nobody else, and refuses before it changes anything."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import playing
import pytest
import yaml
from host_services import UNITS
from jobs import DONE_S, RESUME_S, SHORT, ended, programs, settled, until
from playbook_runner import Counts, changed

from lab.demo import fleet
from lab.demo.fleet import Fleet
from lab.machine import REPOSITORY

pytestmark = pytest.mark.disruptive

MORE = REPOSITORY / "inventories/lab-more"


# Containers with an address of their own need root.
AS_ROOT = ["sudo", "--preserve-env"] if os.geteuid() else []


def play(inventory: str | Path, playbook: str, *arguments: str, prefix: Sequence[str] = ()) -> tuple[Counts, str]:
    """The recap of a playbook's run, for each host, and all that it printed."""
    done = playing.play(inventory, playbook, *arguments, prefix=prefix)
    return done.counts, done.printed


def started(site: Fleet) -> dict[str, str]:
    """When each service started and each program's process, on each host."""
    show = f"systemctl show --property=Id,ActiveEnterTimestampMonotonic,MainPID {' '.join(map(repr, UNITS))}"
    seen = {}
    for host in site.hosts:
        services = host.run(["sh", "-c", show])
        processes = host.run(["sh", "-c", "! command -v supervisorctl >/dev/null || supervisorctl pid all"])
        seen[host.name] = services + processes
    return seen


def test_a_second_run_changes_nothing_and_restarts_nobody(site, request):
    before = started(site)
    counts, said = play(request.config.option.ansible_inventory, "site.yml")
    assert counts and not any(count["failed"] or count["unreachable"] for count in counts.values()), said
    assert changed(counts) == {}, said
    assert started(site) == before


def test_check_mode_predicts_that_nothing_would_change(site, request):
    before = started(site)
    counts, said = play(request.config.option.ansible_inventory, "site.yml", "--check", "--diff")
    assert counts and not any(count["failed"] for count in counts.values()), said
    assert changed(counts) == {}, said
    assert started(site) == before


def test_a_wrong_input_is_refused_before_any_host_changes(site, request):
    before = started(site)
    wrong = ("--extra-vars", "rabbitmq_disk_free_limit=100000 celery_worker_concurency=8")
    counts, said = play(request.config.option.ansible_inventory, "site.yml", *wrong)
    assert "Did you mean celery_worker_concurrency?" in said, said
    assert changed(counts) == {}, said
    counts, said = play(
        request.config.option.ansible_inventory,
        "site.yml",
        "--tags",
        "pgbouncer",
        wrong[0],
        '{"rabbitmq_disk_free_limit": 100000}',
    )
    assert "rabbitmq_disk_free_limit" in said and any(count["failed"] for count in counts.values()), said
    assert changed(counts) == {}, said
    assert started(site) == before


@pytest.fixture
def one_host_more() -> Iterator[Path]:
    """The lab's inventory with one line more, and the host that it names gone again afterwards."""
    hosts = yaml.safe_load((REPOSITORY / "inventories/lab/hosts.yml").read_text(encoding="utf-8"))
    hosts["all"]["children"]["celery_workers"]["hosts"]["worker3"] = {"ansible_host": "10.77.0.33"}
    shutil.rmtree(MORE, ignore_errors=True)
    MORE.mkdir()
    (MORE / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    (MORE / "group_vars").symlink_to("../lab/group_vars")
    yield MORE
    subprocess.run([*AS_ROOT, "podman", "rm", "--force", "--time", "60", "grunnfjell-worker3"], check=False, capture_output=True)
    shutil.rmtree(MORE)


# Tasks that change something where a worker is let in, or is no longer.
LET_IN = {"broker1": 1, "db1": 2, "web1": 1}


def test_one_host_more_is_one_line_more_and_nobody_else_is_restarted(site, request, one_host_more, upload):
    before = started(site)
    _, said = play(one_host_more, "lab/create.yml", prefix=AS_ROOT)
    counts, said = play(one_host_more, "site.yml")
    assert counts["worker3"]["failed"] == 0 and counts["worker3"]["changed"], said
    # Whoever the new host talks to has a rule of the firewall more, the database also a reload; nobody else has anything to do.
    assert changed(counts) == LET_IN | {"worker3": counts["worker3"]["changed"]}, said
    assert started(site) == before

    grown = fleet.read(str(one_host_more))
    (worker,) = [host for host in grown.hosts if host.name == "worker3"]
    until("worker3's programs", lambda: all(state.startswith("RUNNING") for state in programs(worker).values()), RESUME_S)
    tasks_done = f"grep -c succeeded {worker.logs}/worker.err.log || true"

    def work_of_worker3() -> bool:
        # As many at once as the others have processes, so that some come to the new one.
        for answer in [upload(SHORT) for _ in range(12)]:
            assert ended(answer)["state"] == "done"
        return int(worker.run(["sh", "-c", tasks_done]) or 0) > 0

    until("a task on worker3", work_of_worker3, DONE_S)

    # A host that leaves the inventory is let in no longer.
    counts, said = play(request.config.option.ansible_inventory, "site.yml")
    assert changed(counts) == LET_IN, said
    assert started(site) == before


CELERY_WORKERS = "playbooks/celery_worker.yml"


def test_a_task_that_breaks_the_promise_is_refused_by_its_name_unless_waived(site, request, tmp_path):
    inventory = request.config.option.ansible_inventory
    shutil.copytree(REPOSITORY / "examples/newsroom", tmp_path / "newsroom", ignore=shutil.ignore_patterns("__pycache__"))
    tasks = tmp_path / "newsroom/newsroom/tasks.py"
    tasks.write_text(tasks.read_text().replace("ignore_result=True", "ignore_result=True, acks_late=False"))
    source = {"application_source": {"directory": str(tmp_path / "newsroom")}}
    # One host's workers are enough to ask, and each host more would be restarted twice.
    one = ("--limit", "worker1", "--extra-vars")
    try:
        counts, said = play(inventory, CELERY_WORKERS, *one, json.dumps(source))
        assert counts["worker1"]["failed"] == 1, said
        assert "the task newsroom.tasks.transcode sets acks_late=False" in said, said
        waived = source | {"application_waivers": {"task_acks_late": "a test"}}
        counts, said = play(inventory, CELERY_WORKERS, *one, json.dumps(waived))
        assert counts["worker1"]["failed"] == 0, said
    finally:
        counts, said = play(inventory, CELERY_WORKERS, *one[:2])
    assert not any(count["failed"] for count in counts.values()), said


def test_a_program_that_leaves_the_inventory_leaves_the_host(site, request):
    inventory = request.config.option.ansible_inventory
    (worker,) = [host for host in site.hosts if host.name == "worker1"]
    before = settled(worker)
    two = {"celery_worker_programs": [{"name": "celery-worker"}, {"name": "celery-mail", "queues": ["mail"], "concurrency": 1}]}
    _, said = play(inventory, CELERY_WORKERS, "--limit", "worker1", "--extra-vars", json.dumps(two))
    until("both programs", lambda: sorted(programs(worker)) == ["celery-mail", "celery-worker"], RESUME_S)
    assert programs(worker)["celery-worker"] == before["celery-worker"], f"the other program was restarted\n{said}"
    _, said = play(inventory, CELERY_WORKERS, "--limit", "worker1")
    assert programs(worker) == before, said
