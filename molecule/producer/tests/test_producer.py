"""What role producer promises, asked of its web process."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://producers"]


@pytest.fixture
def servers(host) -> list[str]:
    """The process ids of the two web servers that share the socket."""
    return host.check_output("supervisorctl pid producer:producer_0 producer:producer_1").split()


def test_two_web_servers_run_as_their_user_under_supervisord(host, inputs, servers):
    states = host.check_output("supervisorctl status 'producer:*'").splitlines()
    assert len(states) == 2 and all(" RUNNING " in state for state in states), states
    assert host.check_output(f"ps -o user= -p {','.join(servers)}").split() == [inputs["application_user"]] * 2


@pytest.mark.once
def test_its_socket_stays_open_while_one_of_them_is_replaced(host, inputs):
    url = f"http://{inputs['producer_bind']}{inputs['producer_health_path']}"
    ask = f"import urllib.request as u; print(u.urlopen('{url}', timeout=5).status)"
    host.check_output("supervisorctl stop producer:producer_0")
    try:
        answers = [host.check_output("python3 -c %s", ask) for _ in range(3)]
    finally:
        host.check_output("supervisorctl start producer:producer_0")
    assert answers == ["200"] * 3


def test_it_has_the_promised_number_of_processes(host, inputs, servers):
    processes = sum(int(host.check_output(f"pgrep -c -P {pid}")) for pid in servers)
    assert processes == max(2, inputs["producer_workers"])


def test_each_process_has_the_promised_number_of_threads(host, inputs, servers):
    for pid in servers:
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
