"""What role producer promises, asked of its web process."""

from __future__ import annotations

testinfra_hosts = ["ansible://producers"]


def test_two_web_servers_run_as_www_data_under_supervisord(host):
    states = host.check_output("supervisorctl status 'producer:*'").splitlines()
    assert len(states) == 2 and all(" RUNNING " in state for state in states), states
    processes = host.check_output("supervisorctl pid producer:producer_0 producer:producer_1").split()
    assert host.check_output(f"ps -o user= -p {','.join(processes)}").split() == ["www-data", "www-data"]


def test_its_socket_stays_open_while_one_of_them_is_replaced(host):
    bind = host.ansible("debug", "msg={{ producer_bind }}", check=False)["msg"]
    ask = f"import urllib.request as u; print(u.urlopen('http://{bind}/healthz', timeout=5).status)"
    host.check_output("supervisorctl stop producer:producer_0")
    try:
        answers = [host.check_output("python3 -c %s", ask) for _ in range(3)]
    finally:
        host.check_output("supervisorctl start producer:producer_0")
    assert answers == ["200"] * 3


def test_it_answers(host):
    bind = host.ansible("debug", "msg={{ producer_bind }}", check=False)["msg"]
    assert (
        host.check_output(f"python3 -c 'import urllib.request as u; print(u.urlopen(\"http://{bind}/healthz\").status)'") == "200"
    )


def test_it_keeps_no_connection_that_needs_heartbeats(host):
    assert "broker_heartbeat = 0" in host.file("/etc/newsroom/celeryconfig.py").content_string
