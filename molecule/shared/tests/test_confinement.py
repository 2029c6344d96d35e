"""What an intruder in a service could do to the host, as systemd and the kernel report for each service of the kit."""

from __future__ import annotations

import pytest
from host_services import services_of

testinfra_hosts = ["ansible://all"]
pytestmark = pytest.mark.only_on(lambda variables: any(service.units for service in services_of(variables)))

PROMISED = {"NoNewPrivileges": "yes", "ProtectHome": "yes", "PrivateTmp": "yes", "LimitCORE": "0"}
# These use a seccomp filter, which systemd in a container can install only for services that it starts as root.
FILTERED = {"ProtectKernelModules": "yes", "RestrictSUIDSGID": "yes", "RestrictNamespaces": "yes"}
# On the scale of `systemd-analyze security`: 0 (locked up) to 10 (unconfined); Debian's units have 9.2 and more.
EXPOSURE_MAX = {True: 3.0, False: 6.0}
CAP_SYS_ADMIN = 1 << 21
# CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_MODULE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_MKNOD: each gives control of the host.
FORBIDDEN_CAPABILITIES = sum(1 << number for number in (21, 19, 16, 12, 13, 27))
# keepalived adds addresses and sends packets of its own protocol: CAP_NET_ADMIN and CAP_NET_RAW are its work.
NEEDED_CAPABILITIES = {"keepalived.service": 1 << 12 | 1 << 13}


@pytest.fixture
def running(host):
    """Unit to the pid of its main process, for each service of the kit on this host."""
    pids = {}
    # A role of which this host is the other end has no service here.
    patterns = [service.units[0] for service in services_of(host.ansible.get_variables()) if service.units]
    installed = [pattern for pattern in patterns if host.run(f"systemctl list-unit-files --no-legend '{pattern}'").stdout]
    for pattern in patterns:  # the first is the service itself
        if listed := host.check_output(f"systemctl list-units --plain --no-legend --state=running '{pattern}'").split():
            pids[listed[0]] = host.check_output(f"systemctl show {listed[0]} --property=MainPID --value")
    assert pids or not installed, "none of the kit's services runs"
    return pids


@pytest.fixture
def filtered(host):
    """Whether this host's systemd can filter the system calls of a unit."""
    bounding = host.check_output("awk '/^CapBnd:/ {print $2}' /proc/1/status")

    def can_filter(unit: str) -> bool:
        as_root = host.check_output(f"systemctl show {unit} --property=User --value") in ("", "root")
        return as_root or bool(int(bounding, 16) & CAP_SYS_ADMIN)

    return can_filter


def test_systemd_lets_no_service_gain_privileges(host, running, filtered):
    for unit in running:
        promised = PROMISED | (FILTERED if filtered(unit) else {})
        lines = host.check_output(f"systemctl show {unit} --property={','.join(promised)}").splitlines()
        assert dict(line.split("=", 1) for line in lines) == promised, unit


def test_the_kernel_confines_every_process_of_a_service(host, running, filtered):
    parents = dict(map(int, line.split()) for line in host.check_output("ps -e -o pid= -o ppid=").splitlines())
    for unit, main in running.items():
        family = {int(main)}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        program = "awk '/^(NoNewPrivs|Seccomp|CapEff|CapBnd):/ {printf \"%%s \", $2}' /proc/%d/status 2>/dev/null; echo"
        processes = [line for pid in family if (line := host.run(program % pid).stdout.split())]
        assert processes, f"{unit} has no process"
        for effective, bound, gains, mode in processes:
            assert gains == "1", f"{unit}: a process may gain privileges"
            assert mode == "2", f"{unit}: its system calls are not filtered"
            forbidden = FORBIDDEN_CAPABILITIES & ~NEEDED_CAPABILITIES.get(unit, 0)
            assert not int(bound, 16) & forbidden and not int(effective, 16) & forbidden, unit


def test_systemd_rates_every_service_as_confined(host, running, filtered):
    for unit in running:
        rating = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -n 1")
        assert float(rating.split(":")[1].split()[0]) <= EXPOSURE_MAX[filtered(unit)], rating


# In the lab's containers systemd cannot give a service a mount namespace; make test-kvm asks machines.
@pytest.mark.only_on(lambda variables: "lab_host" not in variables)
def test_a_service_sees_no_home_and_writes_no_system_file(host, running):
    """In the mount namespace of the service, where it has one: systemd in a container may be unable to create it."""
    for unit, pid in running.items():
        namespace = host.run(f"readlink /proc/{pid}/ns/mnt").stdout
        if namespace in ("", host.check_output("readlink /proc/1/ns/mnt")):
            pytest.skip("systemd on this host cannot give services a mount namespace, or root cannot enter it")
        inside = f"nsenter --target {pid} --mount"
        if host.run(f"{inside} true").rc != 0:
            pytest.skip("root on this host cannot enter a mount namespace")
        assert host.run(f"{inside} touch /usr/grunnfjell-was-here").rc != 0, unit
        assert host.run(f"{inside} touch /etc/grunnfjell-was-here").rc != 0, unit
        assert host.check_output(f"{inside} ls -A /root") == "", unit
