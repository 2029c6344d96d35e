"""What becomes of a handover that fails: no client meets what does not answer, and what breaks the promise goes back."""

from __future__ import annotations

import pytest
from playing import play
from rollouts import newsroom_with, programs_of

testinfra_hosts = ["ansible://rabbitmq"]  # one host: a rollout is of the whole fleet
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

PLAYBOOK = "playbooks/producer.yml"
WITHOUT_CONFIRMS = """
from newsroom.celery import app as jobs
jobs.conf.broker_transport_options = {"visibility_timeout": 3600}
app = Flask("newsroom")
"""


def test_web_servers_that_break_the_promise_hand_back(host, inventory, fleet, tmp_path):
    before = {name: programs_of(one) for name, one in fleet.items()}
    edit = newsroom_with(tmp_path, "web.py", 'app = Flask("newsroom")', WITHOUT_CONFIRMS)
    run = play(inventory, PLAYBOOK, *edit)
    after = {name: programs_of(one) for name, one in fleet.items()}
    assert run.returncode != 0, run.printed
    assert "broker_transport_options is {'visibility_timeout': 3600}" in run.said, run.printed
    assert "This batch was rolled back, and later batches were not started." in run.said, run.printed
    assert {name: one.intact for name, one in after.items()} == {name: one.intact for name, one in before.items()}
    # One host has handed over and back; the others never did.
    assert sum(after[name].pids != before[name].pids for name in fleet) == 1


def test_web_servers_that_do_not_answer_meet_no_client(host, inventory, fleet, tmp_path):
    before = {name: programs_of(one) for name, one in fleet.items()}
    edit = newsroom_with(tmp_path, "web.py", 'jsonify(status="ok")', "abort(500)")
    run = play(inventory, PLAYBOOK, *edit, "--extra-vars", "producer_answer_timeout=5")
    assert run.returncode != 0, run.printed
    assert "did not answer 200 at /healthz within 5 s in its trial; no client was connected to it." in run.said, run.printed
    assert {name: programs_of(one) for name, one in fleet.items()} == before


def test_a_producer_that_is_not_healthy_fails_the_run_with_its_log(host, inventory, inputs):
    host.check_output("echo the last words of the producer >> /var/log/producer/producer_test.err.log")
    run = play(inventory, PLAYBOOK, variables={"producer_health_path": "/nowhere", "producer_answer_timeout": 2})
    host.check_output("rm /var/log/producer/producer_test.err.log")
    assert run.returncode != 0, run.printed
    assert f"https://{inputs['producer_bind']}/nowhere did not answer 200 within 2 s" in run.said, run.printed
    assert "the last words of the producer" in run.said, run.printed
