"""What a service that was taken over could do to its host, asked of systemd and of the kernel for each service that runs here."""

from __future__ import annotations

import pytest
from host_services import services_of

testinfra_hosts = ["ansible://all"]
pytestmark = pytest.mark.only_on(lambda variables: services_of(variables))

PROMISED = {"NoNewPrivileges": "yes", "ProtectHome": "yes", "PrivateTmp": "yes", "LimitCORE": "0"}
# By a filter of system calls, which a container's systemd can put only before a service that it starts as root.
FILTERED = {"ProtectKernelModules": "yes", "RestrictSUIDSGID": "yes", "RestrictNamespaces": "yes"}
# Of systemd's own judgement, from 0 (locked up) to 10 (free); Debian's units are at 9.2 and more.
EXPOSURE_MOST = {True: 3.0, False: 6.0}
CAP_SYS_ADMIN = 1 << 21
# CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_MODULE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_MKNOD: the keys to the host.
KEYS_TO_THE_HOST = sum(1 << number for number in (21, 19, 16, 12, 13, 27))


@pytest.fixture
def running(host):
    """Unit → its main process, for each service of the kit on this host."""
    found = {}
    for service in services_of(host.ansible.get_variables()):
        for pattern in service.units[:1]:  # the first is the service itself
            if listed := host.check_output(f"systemctl list-units --plain --no-legend --state=running '{pattern}'").split():
                found[listed[0]] = host.check_output(f"systemctl show {listed[0]} --property=MainPID --value")
    assert found, "none of the kit's services runs"
    return found


@pytest.fixture
def filtered(host):
    """Whether this host's systemd filters the unit's calls."""
    bounding = host.check_output("awk '/^CapBnd:/ {print $2}' /proc/1/status")

    def run(unit: str) -> bool:
        as_root = host.check_output(f"systemctl show {unit} --property=User --value") in ("", "root")
        return as_root or bool(int(bounding, 16) & CAP_SYS_ADMIN)

    return run


def test_a_service_may_not_gain_rights_and_systemd_says_so(host, running, filtered):
    for unit in running:
        promised = PROMISED | (FILTERED if filtered(unit) else {})
        lines = host.check_output(f"systemctl show {unit} --property={','.join(promised)}").splitlines()
        assert dict(line.split("=", 1) for line in lines) == promised, unit


def test_the_kernel_says_so_of_every_process_of_the_service(host, running, filtered):
    parents = dict(map(int, line.split()) for line in host.check_output("ps -e -o pid= -o ppid=").splitlines())
    for unit, main in running.items():
        family = {int(main)}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        program = "awk '/^(NoNewPrivs|Seccomp|CapEff|CapBnd):/ {printf \"%%s \", $2}' /proc/%d/status 2>/dev/null; echo"
        processes = [line for pid in family if (line := host.run(program % pid).stdout.split())]
        assert processes, f"{unit} has no process"
        for effective, bound, gains, mode in processes:
            assert gains == "1", f"{unit}: a process may gain rights"
            assert mode == "2", f"{unit}: its calls are not filtered"
            assert not int(bound, 16) & KEYS_TO_THE_HOST and not int(effective, 16) & KEYS_TO_THE_HOST, unit


def test_systemd_judges_the_service_as_closed(host, running, filtered):
    for unit in running:
        said = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -n 1")
        assert float(said.split(":")[1].split()[0]) <= EXPOSURE_MOST[filtered(unit)], said


# In the lab's containers systemd may not give a service a view; make test-kvm asks machines.
@pytest.mark.only_on(lambda variables: "lab_release" not in variables)
def test_a_service_sees_no_home_and_writes_nothing_of_the_system(host, running):
    """From within the service's own view of the files, where it has one: a container's systemd may give it none."""
    for unit, pid in running.items():
        own = host.run(f"readlink /proc/{pid}/ns/mnt").stdout
        if own in ("", host.check_output("readlink /proc/1/ns/mnt")):
            pytest.skip("this host's systemd may not give a service a view of its own, or root may not look into it")
        inside = f"nsenter --target {pid} --mount"
        if host.run(f"{inside} true").rc != 0:
            pytest.skip("this host's root may not look into a service's view")
        assert host.run(f"{inside} touch /usr/grunnfjell-was-here").rc != 0, unit
        assert host.run(f"{inside} touch /etc/grunnfjell-was-here").rc != 0, unit
        assert host.check_output(f"{inside} ls -A /root") == "", unit
