"""When a handover fails, no client meets a broken web server, and one that breaks the promise is rolled back."""

from __future__ import annotations

import pytest
from playbook_runner import play
from rollouts import newsroom_with, programs_of

testinfra_hosts = ["ansible://rabbitmq"]  # one host: each test rolls out to the whole fleet
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

PLAYBOOK = "playbooks/producer.yml"
WITHOUT_CONFIRMS = """
from newsroom.celery import app as jobs
jobs.conf.broker_transport_options = {"visibility_timeout": 3600}
app = Flask("newsroom")
"""


def test_web_servers_that_break_the_promise_are_rolled_back(host, inventory, fleet, tmp_path):
    before = {name: programs_of(host) for name, host in fleet.items()}
    edit = newsroom_with(tmp_path, "web.py", 'app = Flask("newsroom")', WITHOUT_CONFIRMS)
    run = play(inventory, PLAYBOOK, *edit)
    after = {name: programs_of(host) for name, host in fleet.items()}
    assert run.returncode != 0, run.output
    assert "broker_transport_options is {'visibility_timeout': 3600}" in run.text, run.output
    assert "This batch was rolled back, and later batches were not started." in run.text, run.output
    assert {name: programs.intact for name, programs in after.items()} == {
        name: programs.intact for name, programs in before.items()
    }
    # One host handed over and back; the others never did.
    assert sum(after[name].pids != before[name].pids for name in fleet) == 1


def test_web_servers_that_do_not_answer_meet_no_client(host, inventory, fleet, tmp_path):
    before = {name: programs_of(host) for name, host in fleet.items()}
    edit = newsroom_with(tmp_path, "web.py", 'jsonify(status="ok")', "abort(500)")
    run = play(inventory, PLAYBOOK, *edit, "--extra-vars", "producer_answer_timeout=5")
    assert run.returncode != 0, run.output
    assert "did not answer 200 at /healthz within 5 s in its trial; no client was connected to it." in run.text, run.output
    assert {name: programs_of(host) for name, host in fleet.items()} == before


def test_a_producer_that_is_not_healthy_fails_the_run_with_its_log(host, inventory, inputs):
    host.check_output("echo the last words of the producer >> /var/log/producer/producer_test.err.log")
    run = play(inventory, PLAYBOOK, variables={"producer_health_path": "/nowhere", "producer_answer_timeout": 2})
    host.check_output("rm /var/log/producer/producer_test.err.log")
    assert run.returncode != 0, run.output
    assert f"https://{inputs['producer_bind']}/nowhere did not answer 200 within 2 s" in run.text, run.output
    assert "the last words of the producer" in run.text, run.output
