"""What role rabbitmq promises of the running broker."""

from __future__ import annotations

import pytest
from amqp_probe import Refused

testinfra_hosts = ["ansible://rabbitmq"]


def in_force(ctl, application: str, key: str) -> int:
    return int(ctl("eval", f"{{ok, V}} = application:get_env({application}, {key}), V."))


def test_the_broker_runs_and_comes_back_at_boot(host, status):
    service = host.service("rabbitmq-server")
    assert service.is_running
    assert service.is_enabled
    assert status["alarms"] == []


def test_publishers_are_blocked_at_the_promised_share_of_the_real_memory(status, inputs, memory):
    promised = int(memory * inputs["rabbitmq_vm_memory_high_watermark"])
    assert abs(status["vm_memory_high_watermark_limit"] - promised) <= 1
    assert status["vm_memory_high_watermark_setting"] == {"absolute": status["vm_memory_high_watermark_limit"]}


def test_publishers_are_blocked_while_the_memory_still_fits_on_the_disk(status, inputs, memory):
    assert abs(status["disk_free_limit"] - int(memory * inputs["rabbitmq_disk_free_limit"])) <= 1
    assert status["disk_free"] > status["disk_free_limit"]


@pytest.mark.once
@pytest.mark.only_on(lambda variables: variables.get("rabbitmq_require_native_code", True))
def test_the_broker_runs_as_native_code(ctl, inputs):
    assert ctl("eval", "erlang:system_info(emu_flavor).") == "jit"


def test_a_long_task_keeps_its_delivery(ctl, inputs):
    assert in_force(ctl, "rabbit", "consumer_timeout") == inputs["rabbitmq_consumer_timeout"]


def test_the_log_of_quorum_queues_fits_the_host_s_memory(ctl, memory):
    wal = in_force(ctl, "ra", "wal_max_size_bytes")
    assert wal <= max(16 * 2**20, memory // 32)


def test_the_broker_has_its_descriptors(host, inputs):
    pid = host.check_output("systemctl show --property=ExecMainPID --value rabbitmq-server")
    allowed, ceiling = (
        int(host.check_output(f"awk '/^Max open files/ {{ print ${column} }}' /proc/{process}/limits"))
        for process, column in ((pid, 4), (1, 5))
    )
    assert allowed == min(inputs["rabbitmq_nofile"], ceiling)


def test_a_stop_has_the_declared_timeout(host, inputs):
    granted = host.check_output("systemctl show --property=TimeoutStopUSec --value rabbitmq-server")
    in_seconds = {"h": 3600, "min": 60, "s": 1}
    total = sum(int(part.rstrip("hmins")) * in_seconds[part.lstrip("0123456789")] for part in granted.split())
    assert total == inputs["rabbitmq_timeout_stop_sec"]


@pytest.mark.once
def test_only_the_broker_reads_the_cookie(host, inputs):
    cookie = host.file("/var/lib/rabbitmq/.erlang.cookie")
    assert (cookie.user, cookie.group, cookie.mode) == ("rabbitmq", "rabbitmq", 0o400)
    assert cookie.content_string == inputs["rabbitmq_erlang_cookie"]


@pytest.mark.once
def test_no_password_or_hash_is_left_in_a_file(host):
    assert host.check_output("ls /run").count("rabbitmq-definitions-") == 0


@pytest.mark.once
def test_only_the_declared_plugins_are_enabled(host, inputs):
    enabled = host.check_output("rabbitmq-plugins --quiet list -E --minimal </dev/null").split()
    assert sorted(enabled) == sorted(inputs["rabbitmq_plugins"])


@pytest.mark.once
@pytest.mark.only_on(lambda variables: "channel_max" in variables.get("rabbitmq_parameters", {}))
def test_a_further_key_of_the_inventory_is_in_force(ctl, inputs):
    assert in_force(ctl, "rabbit", "channel_max") == inputs["rabbitmq_parameters"]["channel_max"]


def test_only_the_declared_users_exist(ctl, inputs):
    assert {user["user"] for user in ctl("list_users", parse=True)} == {user["name"] for user in inputs["rabbitmq_users"]}


def test_only_the_declared_virtual_hosts_exist(ctl, inputs):
    assert {vhost["name"] for vhost in ctl("list_vhosts", parse=True)} == {vhost["name"] for vhost in inputs["rabbitmq_vhosts"]}


@pytest.mark.once
def test_the_application_logs_in_and_gets_the_declared_heartbeat(connect, application, inputs):
    with connect(**application) as connection:
        assert connection.heartbeat == inputs["rabbitmq_heartbeat"]


@pytest.mark.once
@pytest.mark.parametrize("login", [{"user": "guest", "password": "guest"}, {"password": "wrong"}, {"user": "", "password": ""}])
def test_guest_an_empty_login_and_a_wrong_password_are_refused(connect, application, login):
    with pytest.raises(Refused, match="ACCESS_REFUSED"):
        connect(**{**application, **login})


def test_the_application_cannot_enter_another_virtual_host(connect, application, inputs):
    users = [user for user in inputs["rabbitmq_users"] if user["name"] == application["user"]]
    permitted = {permission["vhost"] for user in users for permission in user["permissions"]}
    others = {vhost["name"] for vhost in inputs["rabbitmq_vhosts"]} - permitted or {"/"}
    with pytest.raises(Refused, match="NOT_ALLOWED"):
        connect(**{**application, "vhost": others.pop()})
