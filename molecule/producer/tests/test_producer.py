"""What role producer promises, asked of its web process."""

from __future__ import annotations

testinfra_hosts = ["ansible://producers"]


def test_the_web_process_runs_as_www_data_under_supervisord(host):
    state = host.check_output("supervisorctl status producer")
    assert " RUNNING " in state
    assert host.check_output("ps -o user= -p $(supervisorctl pid producer)") == "www-data"


def test_it_answers(host):
    bind = host.ansible("debug", "msg={{ producer_bind }}", check=False)["msg"]
    assert (
        host.check_output(f"python3 -c 'import urllib.request as u; print(u.urlopen(\"http://{bind}/healthz\").status)'") == "200"
    )


def test_it_keeps_no_connection_that_needs_heartbeats(host):
    assert "broker_heartbeat = 0" in host.file("/etc/newsroom/celeryconfig.py").content_string
