"""What role celery_worker promises, as supervisord and the live workers report it."""

from __future__ import annotations

import json

import pytest

testinfra_hosts = ["ansible://celery_worker"]

PROMISES = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_acks_on_failure": False,
    "task_acks_on_timeout": False,
    "worker_prefetch_multiplier": 1,
    "task_default_queue_type": "quorum",
    "task_always_eager": False,
    "worker_pool": "prefork",
}

# What supervisord reports of its programs over its socket.
ASK = """
import json, sys
from supervisor.xmlrpc import SupervisorTransport
from xmlrpc.client import ServerProxy
rpc = ServerProxy("http://localhost", SupervisorTransport(None, None, "unix:///run/supervisor.sock")).supervisor
# The API leaves stopasgroup out. supervisord's parser has it, and `pending` shows that it runs these files.
from supervisor.options import ServerOptions
options = ServerOptions()
options.realize(["-c", "/etc/supervisor/supervisord.conf"])
to_group = {process.name: process.stopasgroup for group in options.process_group_configs for process in group.process_configs}
report = {"config": rpc.getAllConfigInfo(), "processes": rpc.getAllProcessInfo(), "pending": rpc.reloadConfig()}
print(json.dumps(report | {"to_group": to_group}))
"""


@pytest.fixture(scope="module")
def supervisord(host) -> dict:
    return json.loads(host.check_output("python3 -c %s", ASK))


def concurrency(program: dict, inputs: dict) -> int:
    return program.get("concurrency") or inputs["celery_worker_concurrency"]


@pytest.fixture(scope="module")
def programs(supervisord, inputs) -> dict[str, dict]:
    """supervisord's configuration and state of each declared worker program."""
    config = {entry["name"]: entry for entry in supervisord["config"]}
    state = {entry["name"]: entry for entry in supervisord["processes"]}
    return {program["name"]: config[program["name"]] | state[program["name"]] for program in inputs["celery_worker_programs"]}


@pytest.fixture(scope="module")
def live(host, hostname, inputs) -> dict[str, dict]:
    """Configuration and queues of each live worker of this host."""
    run = f"/opt/{inputs['application_name']}/current/run"
    nodes = [f"{program['name']}@{hostname}" for program in inputs["celery_worker_programs"]]

    def inspect(command: str) -> dict:
        command = f"{run} celery --app={inputs['application_celery_app']} inspect {command} --json --timeout 10"
        return json.loads(
            host.check_output(f"runuser -u {inputs['application_user']} -- {command} --destination {','.join(nodes)}")
        )

    conf, queues = inspect("conf"), inspect("active_queues")
    return {node: {"conf": conf.get(node), "queues": queues.get(node)} for node in nodes}


def test_only_the_declared_programs_exist(supervisord, inputs):
    declared = {program["name"] for program in inputs["celery_worker_programs"]}
    beat = {"celery-beat"} if inputs["celery_worker_beat"] else set()
    assert {process["name"] for process in supervisord["processes"]} - {"producer"} == declared | beat


def test_each_program_runs_as_its_user(host, programs, inputs):
    for program in programs.values():
        assert program["statename"] == "RUNNING", program
        assert host.check_output(f"ps -o user= -p {program['pid']}") == inputs["application_user"]


def test_each_program_has_the_promised_number_of_processes(host, programs, inputs):
    for program in inputs["celery_worker_programs"]:
        pid = programs[program["name"]]["pid"]
        children = host.check_output(f"pgrep -c -P {pid} -f celery")
        assert int(children) == concurrency(program, inputs), host.check_output(f"ps -o pid,ppid,args --ppid {pid}")


def test_each_program_consumes_only_its_declared_queues(live, inputs):
    usual = inputs["celery_worker_queues"] or [inputs["application_name"]]
    for program, (node, answer) in zip(inputs["celery_worker_programs"], live.items(), strict=True):
        assert {queue["name"] for queue in answer["queues"]} == set(program.get("queues") or usual), node


def test_supervisord_runs_each_program_with_the_settings_of_the_inventory(programs, inputs):
    expected = {key: inputs[f"celery_worker_{key}"] for key in ("autostart", "startsecs", "stopwaitsecs")}
    for program in programs.values():
        assert {key: program[key] for key in expected} == expected
        assert program["startretries"] > 1000, "after three attempts it is FATAL while the broker still reboots"


def test_a_stop_signals_only_the_parent_and_kills_no_task(supervisord, programs):
    assert supervisord["pending"] == [[[], [], []]], "supervisord does not run what the files say"
    for name, program in programs.items():
        assert (program["stopsignal"], program["killasgroup"], supervisord["to_group"][name]) == (15, True, False)


def test_logs_are_in_the_declared_directory_and_bounded(host, programs, inputs):
    for name, program in programs.items():
        log = f"{inputs['celery_worker_log_directory']}/{name.removeprefix('celery-')}"
        assert (program["stdout_logfile"], program["stderr_logfile"]) == (f"{log}.log", f"{log}.err.log")
        assert 0 < program["stderr_logfile_maxbytes"] <= 50 * 1024**2
        assert program["stderr_logfile_backups"] == inputs["celery_worker_logfile_backups"]
        assert host.file(f"{log}.err.log").size > 0


def test_each_live_worker_keeps_the_promise(live, inputs):
    limits = {"task_soft_time_limit": inputs["application_soft_time_limit"], "task_time_limit": inputs["application_time_limit"]}
    expected = {key: value for key, value in (PROMISES | limits).items() if key not in inputs["application_waivers"]}
    for node, answer in live.items():
        assert {key: answer["conf"].get(key) for key in expected} == expected, node


@pytest.mark.once
def test_a_transport_option_of_the_inventory_keeps_publisher_confirms(live, inputs):
    """Review finding 7. It replaced the kit's options, and clients got a 202 for jobs that never reached the broker."""
    declared = inputs["application_celery_settings"].get("broker_transport_options", {})
    for node, answer in live.items():
        options = answer["conf"]["broker_transport_options"]
        assert {"read_timeout", "write_timeout", "interval_max"} <= options.keys(), node
        assert {key: options.get(key) for key in declared} == declared, node
        assert options["confirm_publish"] or "broker_transport_options" in inputs["application_waivers"], node


# In the application's environment and with the worker's code: as configured, to a broker with another address in its certificate,
# with other authorities (Debian's), and without a client certificate.
CONNECT = """
import ssl, grunnfjell_settings as conf
from kombu import Connection
def attempt(**changed):
    try:
        with Connection(conf.broker_url, ssl={**conf.broker_use_ssl, **changed}, connect_timeout=4) as connection:
            connection.connect()
        return "in"
    except ssl.SSLCertVerificationError:
        return "untrusted"
    except Exception:
        return "refused"
others = "/etc/ssl/certs/ca-certificates.crt"
print(attempt(), attempt(server_hostname="10.255.255.254"), attempt(ca_certs=others), attempt(certfile=None, keyfile=None))
"""


@pytest.mark.once
def test_a_worker_and_its_broker_connect_only_when_each_trusts_the_other(host, inputs):
    run = f"/opt/{inputs['application_name']}/current/run"
    outcomes = host.check_output("runuser -u %s -- %s python -c %s", inputs["application_user"], run, CONNECT)
    assert outcomes == "in untrusted untrusted refused"


def test_a_live_worker_verifies_its_broker(live, inputs):
    for node, answer in live.items():
        tls = answer["conf"]["broker_use_ssl"]
        assert (tls["cert_reqs"], tls["server_hostname"]) == (2, inputs["application_broker_hosts"][0]), node
