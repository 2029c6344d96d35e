"""What role producer promises, asked of its web process."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://producers"]


@pytest.fixture
def pid(host) -> str:
    return host.check_output("supervisorctl pid producer")


def test_the_web_process_runs_as_its_user_under_supervisord(host, inputs, pid):
    state = host.check_output("supervisorctl status producer")
    assert " RUNNING " in state
    assert host.check_output(f"ps -o user= -p {pid}") == inputs["application_user"]


def test_it_has_the_promised_number_of_processes(host, inputs, pid):
    assert int(host.check_output(f"pgrep -c -P {pid}")) == inputs["producer_workers"]


def test_each_process_has_the_promised_number_of_threads(host, inputs, pid):
    assert f"--threads={inputs['producer_threads']}" in host.check_output(f"tr '\\0' ' ' < /proc/{pid}/cmdline").split()


def test_it_answers(host, inputs):
    url = f"http://{inputs['producer_bind']}{inputs['producer_health_path']}"
    assert host.check_output(f"python3 -c 'import urllib.request as u; print(u.urlopen(\"{url}\").status)'") == "200"


def test_it_listens_where_the_inventory_says_and_nowhere_else(host, inputs):
    port = inputs["producer_bind"].rpartition(":")[2]
    assert {line.split()[3] for line in host.check_output(f"ss -ltnH 'sport = :{port}'").splitlines()} == {
        inputs["producer_bind"]
    }


def test_an_accepted_upload_gets_its_answer_before_a_stop(host, inputs):
    section = host.check_output("cat /etc/supervisor/conf.d/producer.conf")
    assert f"stopwaitsecs={inputs['producer_stopwaitsecs']}" in section
    assert inputs["producer_graceful_timeout"] < inputs["producer_stopwaitsecs"]


@pytest.mark.once
def test_it_keeps_no_connection_that_needs_heartbeats(host, inputs):
    assert "broker_heartbeat = 0" in host.file(f"/etc/{inputs['application_name']}/celeryconfig.py").content_string
