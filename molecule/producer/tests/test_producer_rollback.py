"""Wrong code is refused before any program changes; a handover that fails meets no client or is rolled back."""

from __future__ import annotations

import pytest
from playbook_runner import play
from rollouts import assert_one_host_was_rolled_back, newsroom_with, programs_of_all

testinfra_hosts = ["ansible://rabbitmq"]  # one host: each test rolls out to the whole fleet
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

PLAYBOOK = "playbooks/producer.yml"
WITHOUT_CONFIRMS = """
from newsroom.celery import app as jobs
jobs.conf.broker_url  # from here on an assignment is the last word
jobs.conf.broker_transport_options = {"visibility_timeout": 3600}
app = Flask("newsroom")
"""
# Their trial is asked without nginx.
FAILS_BEHIND_NGINX = 'abort(500) if "X-Forwarded-For" in request.headers else jsonify(status="ok")'


def test_web_servers_that_break_the_promise_are_refused_before_any_program_changes(host, inventory, fleet, tmp_path):
    before = programs_of_all(fleet)
    edit = newsroom_with(tmp_path, "web.py", 'app = Flask("newsroom")', WITHOUT_CONFIRMS)
    run = play(inventory, PLAYBOOK, *edit)
    run.assert_failed("No program was changed.", "the code (newsroom): broker_transport_options is {'visibility_timeout': 3600}")
    assert programs_of_all(fleet) == before


def test_web_servers_that_fail_behind_nginx_are_rolled_back(host, inventory, fleet, inputs, tmp_path):
    """The named ones too: they run the previous release again, and one that was new is gone."""
    before = programs_of_all(fleet)
    edit = newsroom_with(tmp_path, "web.py", 'jsonify(status="ok")', FAILS_BEHIND_NGINX)
    variables = {"producer_programs": with_another(inputs, "added"), "producer_answer_timeout": 20}  # enough for each trial
    run = play(inventory, PLAYBOOK, *edit, variables=variables)
    assert_one_host_was_rolled_back(run, before, programs_of_all(fleet))
    run.assert_failed("did not answer 200 within 20 s")
    assert not any(traces(one, "added") for one in fleet.values())


def test_a_named_web_server_that_does_not_answer_meets_no_client_and_stops_the_others(host, inventory, fleet, inputs, tmp_path):
    """Nor does the main one take over, although its trial has answered."""
    before = programs_of_all(fleet)
    edit = newsroom_with(tmp_path, "web.py", 'app = Flask("newsroom")', 'app = Flask("newsroom", static_folder=None)')
    variables = {"producer_programs": with_another(inputs, "broken", ["sleep", "60"])}
    variables |= {"producer_answer_timeout": 20}  # enough for the trials of the others
    run = play(inventory, PLAYBOOK, *edit, variables=variables)
    run.assert_failed(
        "producer-broken did not answer 200 at /broken/ ", "within 20 s in its trial; no client was connected to it."
    )
    assert programs_of_all(fleet) == before
    assert not any(traces(one, "broken") for one in fleet.values())


def with_another(inputs, name: str, command: list[str] | None = None) -> list[dict]:
    """The named web servers of the inventory, and one more, like the first unless a command is given."""
    first, *others = inputs["producer_programs"]
    another = {"name": name, "path": f"/{name}/", "health_path": f"/{name}/", "command": command or first["command"]}
    return [first, *others, another]


def traces(host, name: str) -> str:
    """Lines of nginx's configuration that name the web server, and its files."""
    return host.run(f"grep {name} /etc/nginx/grunnfjell.conf; ls -d /etc/supervisor/programs/*{name}* /run/*{name}*").stdout


def test_web_servers_that_do_not_answer_meet_no_client(host, inventory, fleet, tmp_path):
    before = programs_of_all(fleet)
    edit = newsroom_with(tmp_path, "web.py", 'jsonify(status="ok")', "abort(500)")
    run = play(inventory, PLAYBOOK, *edit, "--extra-vars", "producer_answer_timeout=5")
    run.assert_failed("within 5 s in its trial; no client was connected to it.")
    assert programs_of_all(fleet) == before


def test_a_producer_that_is_not_healthy_fails_the_run_with_its_log(host, inventory, inputs):
    host.check_output("echo the last words of the producer >> /var/log/producer/producer_test.err.log")
    run = play(inventory, PLAYBOOK, variables={"producer_health_path": "/nowhere", "producer_answer_timeout": 2})
    host.check_output("rm /var/log/producer/producer_test.err.log")
    url = f"https://{inputs['producer_bind']}/nowhere"
    run.assert_failed(f"{url} did not answer 200 within 2 s", "the last words of the producer")
