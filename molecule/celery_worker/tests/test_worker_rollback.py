"""Wrong code is refused before any program changes; when a rollout fails, its batch is rolled back and later ones never start."""

from __future__ import annotations

import pytest
from playbook_runner import play
from rollouts import (
    LOGGER,
    REFUSED_AT_THE_START,
    assert_one_host_was_rolled_back,
    newsroom_that_breaks_the_promise_at_its_start,
    newsroom_with,
    programs_of,
    programs_of_all,
)

testinfra_hosts = ["ansible://rabbitmq"]  # one host: each test rolls out to the whole fleet
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

PLAYBOOK = "playbooks/celery_worker.yml"
SECTIONS = "/etc/supervisor/conf.d/celery_worker.conf"
# Written by each worker that runs the wrong code, before it consumes.
STARTED = "/var/lib/newsroom/started"
WRONG = f"""
{LOGGER}
app.conf.broker_url  # from here on an assignment is the last word
app.conf.task_acks_late = False
from celery.signals import celeryd_init
@celeryd_init.connect(weak=False)
def note(**_):
    Path("{STARTED}").touch()
"""


def test_a_release_that_breaks_the_promise_is_refused_before_any_program_changes(host, inventory, fleet, tmp_path):
    before = programs_of_all(fleet)
    run = play(inventory, PLAYBOOK, *newsroom_with(tmp_path, "tasks.py", LOGGER, WRONG))
    run.assert_failed("No program was changed.", "the code (newsroom): task_acks_late is False, but the promise needs True")
    assert programs_of_all(fleet) == before
    assert [name for name, host in fleet.items() if host.file(STARTED).exists] == [], "its code worked on a host"


def test_a_release_that_breaks_the_promise_at_its_start_is_rolled_back_in_its_first_batch(host, inventory, fleet, tmp_path):
    before = programs_of_all(fleet)
    run = play(inventory, PLAYBOOK, *newsroom_that_breaks_the_promise_at_its_start(tmp_path))
    assert_one_host_was_rolled_back(run, before, programs_of_all(fleet))
    run.assert_failed(REFUSED_AT_THE_START)


def test_a_program_that_does_not_answer_is_removed_again_and_its_error_shown(host, inventory, fleet, inputs):
    before = {name: (programs_of(host), host.file(SECTIONS).content_string) for name, host in fleet.items()}
    extra = {"name": "extra", "queues": ["extra"], "arguments": ["--no-such-option"]}
    edit = {"celery_worker_programs": [*inputs["celery_worker_programs"], extra], "celery_worker_answer_timeout": 5}
    run = play(inventory, PLAYBOOK, variables=edit)
    after = {name: (programs_of(host), host.file(SECTIONS).content_string) for name, host in fleet.items()}
    run.assert_failed("No answer of this release within 5 s (celery_worker_answer_timeout)", "Error: No such option")
    assert after == before
