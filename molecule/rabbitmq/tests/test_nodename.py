"""The broker keeps its data when its host is renamed. A node looks for data only under its node name."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator

import pytest
from queue_probe import take_job

testinfra_hosts = ["ansible://rabbitmq"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

PLAYBOOK = "playbooks/rabbitmq.yml"
ASIDE = "/var/lib/rabbitmq/aside"


@pytest.fixture
def rename(host, hostname) -> Iterator[Callable[[str], None]]:
    """Give the host another name, as an administrator does."""
    before = host.check_output("hostname")

    def run(new: str) -> None:
        host.run_test(f"echo {new} >/etc/hostname")
        if host.run(f"hostnamectl set-hostname {new}").rc:
            # A container of the lab cannot change its hostname.
            inspect = ["podman", "inspect", "--format", "{{.State.Pid}}", f"grunnfjell-{hostname}"]
            pid = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()
            subprocess.run(["nsenter", "--uts", "--target", pid, "hostname", new], check=True)
        assert host.check_output("hostname") == new

    yield run
    run(before)


def node(ctl) -> str:
    return ctl("eval", "node().").strip("'")


def test_a_renamed_host_keeps_its_broker_and_its_jobs(host, ctl, session, queue, connect, application, rename, converge):
    """Review finding 1."""
    body, before = f"durable {secrets.token_hex(8)}", node(ctl)
    assert session.publish(queue, body) == "ack"
    rename("broker-a")
    host.check_output("systemctl restart rabbitmq-server")
    assert node(ctl) == before
    run = converge(PLAYBOOK)
    assert run.returncode == 0 and run.changed == {}, run.output
    assert take_job(connect, application, queue) == body


@pytest.fixture
def older_broker(host, ctl, rename, application, inputs) -> Iterator[str]:
    """A broker of an older kit, without NODENAME: its node has the host's name, and as under 3.8 it lacks a feature flag."""
    address = inputs["rabbitmq_distribution_address"].replace(".", ",")
    flags = "quorum_queue,implicit_default_bindings,maintenance_mode_status,user_limits,virtual_host_metadata"
    flags = f"RABBITMQ_FEATURE_FLAGS={flags}" if host.check_output(". /etc/os-release; echo $VERSION_ID") == "12" else ""
    host.check_output(f"systemctl stop rabbitmq-server && mkdir {ASIDE} && mv /var/lib/rabbitmq/mnesia {ASIDE}/")
    host.check_output(f"cp -a /etc/rabbitmq {ASIDE}/etc")
    try:
        rename("older")
        host.check_output(f"sed -i 's/^NODENAME=.*/{flags}/' /etc/rabbitmq/rabbitmq-env.conf")
        host.check_output(f"echo '{{host, {{{address}}}, [\"older\"]}}. {{lookup, [file, native]}}.' >/etc/rabbitmq/inetrc")
        host.check_output("systemctl start rabbitmq-server")
        assert node(ctl) == "rabbit@older"
        ctl("add_vhost", application["vhost"])
        ctl("add_user", application["user"], application["password"])
        ctl("set_permissions", "-p", application["vhost"], application["user"], ".*", ".*", ".*")
        yield "rabbit@older"
    finally:
        host.check_output("systemctl stop rabbitmq-server; rm -rf /var/lib/rabbitmq/mnesia")
        host.check_output(f"cp -a {ASIDE}/etc/. /etc/rabbitmq/ && mv {ASIDE}/mnesia /var/lib/rabbitmq/ && rm -r {ASIDE}")
        host.check_output("systemctl start rabbitmq-server")


def test_an_older_broker_keeps_its_name_and_its_jobs(host, ctl, older_broker, queue, connect, application, rename, converge):
    """Review findings 1 and 37."""
    body = f"older {secrets.token_hex(8)}"
    with connect(**application) as connection:
        connection.declare(queue, **{"x-queue-type": "quorum"})
        assert connection.publish(queue, body) == "ack"
    rename("younger")
    run = converge(PLAYBOOK)
    assert run.returncode == 0, run.output
    host.check_output("systemctl restart rabbitmq-server")
    assert node(ctl) == older_broker
    assert take_job(connect, application, queue) == body
    assert "stream_queue\tenabled" in ctl("list_feature_flags")


def test_data_of_only_another_node_is_refused(host, ctl, converge):
    """Review finding 1."""
    mnesia, own_node = "/var/lib/rabbitmq/mnesia", node(ctl)
    host.check_output(f"systemctl stop rabbitmq-server && mv {mnesia}/{own_node} {mnesia}/rabbit@elsewhere")
    try:
        refusal = f"{mnesia} holds only the data of rabbit@elsewhere"
        converge(PLAYBOOK).assert_refused(refusal, "Set rabbitmq_nodename: rabbit@elsewhere")
        assert not host.service("rabbitmq-server").is_running
    finally:
        host.check_output(f"mv {mnesia}/rabbit@elsewhere {mnesia}/{own_node} && systemctl start rabbitmq-server")


def test_every_feature_flag_that_dead_letters_need_is_enabled(ctl):
    """Review finding 37."""
    assert "stream_queue\tenabled" in ctl("list_feature_flags")


def test_a_broker_restarts_for_settings_that_it_has_not_read(host, ctl, inputs, converge):
    """Review finding 31. As after a run that was cut off: the file is right, but the broker has read another one."""
    file = "/etc/rabbitmq/rabbitmq.conf"
    host.check_output(f"cp -a {file} {file}.aside && sed -i 's/^heartbeat = .*/heartbeat = 33/' {file}")
    host.check_output(f"systemctl restart rabbitmq-server && mv {file}.aside {file} && touch -d yesterday {file}")
    run = converge(PLAYBOOK)
    assert run.returncode == 0 and run.changed, run.output
    assert ctl("eval", "{ok, V} = application:get_env(rabbit, heartbeat), V.") == str(inputs["rabbitmq_heartbeat"])


@pytest.fixture
def silent_queue(ctl, connect, inputs, queue) -> Iterator[tuple[str, str]]:
    """A queue with a job, whose process does not answer, as during recovery."""
    vhost = inputs["rabbitmq_vhosts"][-1]["name"]
    login = {"user": vhost, "password": inputs["rabbitmq_user_passwords"][vhost], "vhost": vhost}
    with connect(**login) as connection:
        connection.declare(queue, **{"x-queue-type": "quorum"})
        assert connection.publish(queue, "still here") == "ack"
    name = (
        f'R = rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>), {{ok, Q}} = rabbit_amqqueue:lookup(R), P = amqqueue:get_pid(Q)'
    )
    ctl("eval", f"{name}, ra:stop_server(quorum_queues, P), ets:delete(queue_coarse_metrics, R).")
    yield vhost, queue
    ctl("eval", f"{name}, ra:restart_server(quorum_queues, P).")
    assert take_job(connect, login, queue) == "still here"
    with connect(**login) as connection:
        connection.delete(queue)


def test_a_virtual_host_whose_queue_does_not_answer_is_not_deleted(ctl, silent_queue: tuple[str, str], inputs, converge):
    """Review finding 32."""
    vhost, _ = silent_queue
    others = [entry["name"] for entry in inputs["rabbitmq_vhosts"] if entry["name"] != vhost]
    run = converge(PLAYBOOK, topology_applications=others)
    run.assert_refused(f"The virtual host '{vhost}' is not in rabbitmq_vhosts any more, but one of its queues does not report")
    assert vhost in ctl("list_vhosts")


def test_a_setting_that_would_keep_the_broker_from_starting_is_refused(converge):
    """A misspelt key, and a plugin's key without its plugin."""
    run = converge(PLAYBOOK, rabbitmq_parameters={"chanel_max": 512, "prometheus.tcp.port": 9}, rabbitmq_plugins=[])
    run.assert_refused("unknown variable: chanel_max", "unknown variable: prometheus.tcp.port")
