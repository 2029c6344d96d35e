"""A host's first programs: those that break the guarantees leave nothing, and beat sends each tick once."""

from __future__ import annotations

import json
import time

import pytest
from playbook_runner import play
from rollouts import REFUSED_AT_THE_START, newsroom_that_breaks_the_promise_at_its_start, programs_of

testinfra_hosts = ["ansible://rabbitmq"]  # one host: a rollout is of the whole fleet
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

PLAYBOOK = "playbooks/celery_worker.yml"
SECTIONS = "/etc/supervisor/conf.d/celery_worker.conf"
# Nobody consumes this queue, so what beat sent can be counted.
QUEUE = "ticks"
SCHEDULE = {"tick": {"task": "newsroom.tasks.nothing", "schedule": 4.0, "options": {"queue": QUEUE}}}


def test_first_programs_that_break_the_guarantees_leave_neither_program_nor_file(host, hostname, inventory, fleet, tmp_path):
    others = {name: programs_of(other) for name, other in fleet.items() if name != hostname}
    host.check_output(f"rm {SECTIONS} && supervisorctl update")
    try:
        run = play(inventory, PLAYBOOK, *newsroom_that_breaks_the_promise_at_its_start(tmp_path))
        run.assert_failed(REFUSED_AT_THE_START)
        assert not host.file(SECTIONS).exists
        assert host.run("supervisorctl status").stdout == ""
        assert {name: programs_of(fleet[name]) for name in others} == others
    finally:
        again = play(inventory, PLAYBOOK)
    assert again.returncode == 0, again.output
    assert set(programs_of(host).states.values()) == {"RUNNING"}


def test_beat_sends_each_tick_once_and_ends_with_its_input(host, hostname, inventory, inputs, tmp_path):
    overlay = tmp_path / "beat.yml"
    overlay.write_text(json.dumps({"all": {"hosts": {hostname: {"celery_worker_beat": True}}}}))
    settings = inputs["application_celery_settings"] | {"beat_schedule": SCHEDULE}

    def sent() -> int:
        return int(host.run(f"cat {inputs['celery_worker_log_directory']}/*beat*.log | grep -c 'Sending due task tick'").stdout)

    def queued() -> int:
        listed = host.check_output(f"rabbitmqctl -q list_queues -p {inputs['application_name']} name messages").splitlines()
        return sum(int(line.split()[1]) for line in listed if line.split()[0] == QUEUE)

    try:
        run = play(inventory, PLAYBOOK, "-i", overlay, variables={"application_celery_settings": settings})
        assert run.returncode == 0, run.output
        assert programs_of(host).states["celery-beat"] == "RUNNING"
        deadline = time.monotonic() + 60
        while queued() < 2 and time.monotonic() < deadline:
            time.sleep(0.5)  # between two looks; `deadline` ends them
        assert queued() >= 2
    finally:
        again = play(inventory, PLAYBOOK)
    assert again.returncode == 0, again.output
    assert "celery-beat" not in programs_of(host).states
    ticks = sent()
    time.sleep(2 * SCHEDULE["tick"]["schedule"])  # a second beat would send another tick in this time
    assert (sent(), queued()) == (ticks, ticks)
    host.check_output(f"rabbitmqctl -q delete_queue -p {inputs['application_name']} {QUEUE}")
