"""The kernel, clock and control groups of a virtual machine, which a container shares with its machine."""

from __future__ import annotations

import platform

import pytest
from host_services import carries, services_of

testinfra_hosts = ["ansible://all"]


@pytest.fixture
def services(host) -> list[str]:
    return [service.units[0] for service in services_of(host.ansible.get_variables()) if service.units]


def test_the_host_is_a_virtual_machine_with_a_separate_kernel(host):
    assert host.check_output("systemd-detect-virt --vm") in ("kvm", "qemu")
    assert host.run("systemd-detect-virt --container").stdout.strip() == "none"
    assert host.check_output("uname -r") != platform.release()


def test_everything_on_the_host_has_started(host):
    assert host.run("systemctl is-system-running").stdout.strip() == "running", host.check_output("systemctl --failed")


def test_every_declared_kernel_setting_is_in_force(host, inputs):
    declared = inputs["host_sysctl"]
    assert declared, "the role sets nothing"
    # A star means every interface: all must have the value.
    in_force = {name: set(host.check_output(f"cat /proc/sys/{name.replace('.', '/')}").splitlines()) for name in declared}
    assert in_force == {name: {str(value)} for name, value in declared.items()}


def test_the_clock_is_synchronised(host):
    # In a container systemd skips this unit: the clock is the machine's.
    service = host.service("systemd-timesyncd")
    assert service.is_running
    assert service.is_enabled
    assert host.check_output("timedatectl show --property=NTP --value") == "yes"


def test_the_journal_survives_a_reboot(host):
    assert host.check_output("journalctl --header --system | grep -c 'File path: /var/log/journal/'") != "0"


def test_each_service_has_a_separate_cgroup_v2_with_accounting(host, services):
    assert host.check_output("stat --file-system --format=%T /sys/fs/cgroup") == "cgroup2fs"
    for service in services:
        group = host.check_output(f"systemctl show --property=ControlGroup --value '{service}'")
        assert group.startswith("/system.slice/"), service
        assert int(host.check_output(f"cat '/sys/fs/cgroup{group}/memory.current'")) > 0
        assert int(host.check_output(f"cat '/sys/fs/cgroup{group}/pids.current'")) > 0


@pytest.mark.only_on(carries("supervisor"))
def test_every_process_of_the_programs_is_in_supervisord_s_cgroup(host, services):
    pids = host.check_output("pgrep -f '^/opt/[^ ]*/venv/bin/python'").split()
    members = set(
        host.check_output("find /sys/fs/cgroup/system.slice/supervisor.service -name cgroup.procs -exec cat {} +").split()
    )
    assert pids
    assert set(pids) <= members
