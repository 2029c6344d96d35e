"""What role celery_worker promises, asked of supervisord and of the live workers."""

from __future__ import annotations

import json

import pytest

testinfra_hosts = ["ansible://celery_workers"]

# supervisord's own account of its programs, over its own socket.
ASK = """
import json, sys
sys.path.insert(0, "/usr/lib/python3/dist-packages")
from supervisor.xmlrpc import SupervisorTransport
from xmlrpc.client import ServerProxy
rpc = ServerProxy("http://localhost", SupervisorTransport(None, None, "unix:///run/supervisor.sock")).supervisor
print(json.dumps({"config": rpc.getAllConfigInfo(), "processes": rpc.getAllProcessInfo()}))
"""


@pytest.fixture(scope="module")
def supervisord(host) -> dict:
    return json.loads(host.check_output("python3 -c %s", ASK))


@pytest.fixture(scope="module")
def program(supervisord) -> dict:
    (found,) = [config for config in supervisord["config"] if config["name"] == "celery-worker"]
    return found


@pytest.fixture(scope="module")
def process(supervisord) -> dict:
    (found,) = [process for process in supervisord["processes"] if process["name"] == "celery-worker"]
    return found


def test_the_worker_runs_as_www_data(host, process):
    assert process["statename"] == "RUNNING", process
    assert host.check_output(f"ps -o user= -p {process['pid']}") == "www-data"


def test_the_worker_has_the_article_s_four_processes(host, process):
    children = host.check_output(f"pgrep -c -P {process['pid']} -f celery")
    assert int(children) == 4, host.check_output(f"ps -o pid,ppid,args --ppid {process['pid']}")


def test_supervisord_grants_what_the_article_says(program):
    wanted = {
        "autostart": True,
        "startsecs": 10,
        "stopwaitsecs": 600,
        "killasgroup": True,
        "stopsignal": 15,
    }
    assert {key: program[key] for key in wanted} == wanted
    assert program["startretries"] > 1000, "three attempts end in FATAL while the broker reboots"


def test_logs_are_where_the_article_says_and_bounded(host, program):
    assert program["stdout_logfile"] == "/var/log/celery/worker.log"
    assert program["stderr_logfile"] == "/var/log/celery/worker.err.log"
    assert 0 < program["stderr_logfile_maxbytes"] <= 50 * 1024**2 and program["stderr_logfile_backups"] == 10
    assert host.file("/var/log/celery/worker.err.log").size > 0


def test_the_live_worker_keeps_the_promise(host, process):
    ask = "/opt/newsroom/current/run celery --app=newsroom.celery inspect conf --json --timeout 10"
    answers = json.loads(host.check_output(f"runuser -u www-data -- {ask}"))
    name = next(name for name in answers if name.endswith("@" + host.backend.host))
    conf = answers[name]
    wanted = {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure": False,
        "task_acks_on_timeout": False,
        "worker_prefetch_multiplier": 1,
        "task_default_queue_type": "quorum",
        "task_soft_time_limit": 510,
        "task_time_limit": 540,
    }
    assert {key: conf.get(key) for key in wanted} == wanted
