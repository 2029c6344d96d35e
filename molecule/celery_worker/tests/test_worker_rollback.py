"""When a rollout fails, its batch is rolled back and later batches never start."""

from __future__ import annotations

import pytest
from playbook_runner import play
from rollouts import assert_one_host_was_rolled_back, newsroom_with, programs_of, programs_of_all

testinfra_hosts = ["ansible://rabbitmq"]  # one host: each test rolls out to the whole fleet
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

PLAYBOOK = "playbooks/celery_worker.yml"
SECTIONS = "/etc/supervisor/conf.d/celery_worker.conf"


def test_a_release_that_breaks_the_promise_is_rolled_back_and_no_later_batch_starts(host, inventory, fleet, tmp_path):
    before = programs_of_all(fleet)
    edit = newsroom_with(tmp_path, "tasks.py", "ignore_result=True", "ignore_result=True, acks_late=False")
    run = play(inventory, PLAYBOOK, *edit)
    assert_one_host_was_rolled_back(run, before, programs_of_all(fleet))
    run.assert_failed("the task newsroom.tasks.transcode sets acks_late=False")


def test_a_program_that_does_not_answer_is_removed_again_and_its_error_shown(host, inventory, fleet, inputs):
    before = {name: (programs_of(host), host.file(SECTIONS).content_string) for name, host in fleet.items()}
    extra = {"name": "extra", "queues": ["extra"], "arguments": ["--no-such-option"]}
    edit = {"celery_worker_programs": [*inputs["celery_worker_programs"], extra], "celery_worker_answer_timeout": 5}
    run = play(inventory, PLAYBOOK, variables=edit)
    after = {name: (programs_of(host), host.file(SECTIONS).content_string) for name, host in fleet.items()}
    run.assert_failed("No answer of this release within 5 s (celery_worker_answer_timeout)", "Error: No such option")
    assert after == before
