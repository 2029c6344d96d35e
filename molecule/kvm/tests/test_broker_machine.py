"""What role rabbitmq promises of a virtual machine's memory, disk and limits."""

from __future__ import annotations

import json

import pytest

testinfra_hosts = ["ansible://rabbitmq"]

DATA = "/var/lib/rabbitmq"


@pytest.fixture
def memory(host) -> int:
    """Bytes of memory, from the machine's own kernel."""
    return int(host.check_output("awk '/^MemTotal:/ { print $2 }' /proc/meminfo")) * 1024


@pytest.fixture
def status(host) -> dict:
    return json.loads(host.check_output("rabbitmqctl --quiet status --formatter json </dev/null"))


def test_the_machine_has_the_declared_memory(host, memory):
    declared = host.ansible.get_variables()["kvm_memory_mib"] * 2**20
    # The kernel keeps some for itself.
    assert 0.8 * declared < memory < declared


def test_publishers_are_blocked_at_the_promised_share_of_the_machine_s_memory(status, memory, inputs):
    share = inputs["rabbitmq_vm_memory_high_watermark"]
    assert abs(status["vm_memory_high_watermark_limit"] - int(memory * share)) <= 1


def test_the_disk_limit_follows_the_machine_s_memory(status, memory, inputs):
    assert abs(status["disk_free_limit"] - int(memory * inputs["rabbitmq_disk_free_limit"])) <= 1


def test_the_broker_watches_the_disk_that_its_data_is_on(host, status):
    root, data = (int(host.check_output(f"stat --file-system --format=%d {path}")) for path in ("/", DATA))
    size = int(host.check_output(f"df --block-size=1 --output=size {DATA} | tail -n 1"))
    assert root != data, "the broker's data is on the root filesystem"
    assert 0 < status["disk_free"] <= size


def test_the_broker_has_the_declared_descriptors(host, inputs):
    pid = host.check_output("systemctl show --property=ExecMainPID --value rabbitmq-server")
    limits = host.check_output(f"awk '/^Max open files/ {{ print $4, $5 }}' /proc/{pid}/limits").split()
    assert limits == [str(inputs["rabbitmq_nofile"])] * 2
