"""What a service that was taken over could do to its host, asked of systemd and of the kernel for each service that runs here."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://all"]

# Group of the host → the unit that its role keeps running.
UNITS = {
    "rabbitmq": "rabbitmq-server.service",
    "postgresql": "postgresql@*.service",
    "pgbouncer": "pgbouncer.service",
    "supervisor": "supervisor.service",
}
PROMISED = {
    "NoNewPrivileges": "yes",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "ProtectKernelModules": "yes",
    "RestrictSUIDSGID": "yes",
    "LimitCORE": "0",
}
# Of systemd's own judgement, from 0 (locked up) to 10 (free); Debian's units are at 9.2 and more.
EXPOSURE_MOST = 4.5
# CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_MODULE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_MKNOD: the keys to the host.
KEYS_TO_THE_HOST = sum(1 << number for number in (21, 19, 16, 12, 13, 27))


@pytest.fixture
def running(host):
    """Unit → its main process, for each service of the kit on this host."""
    groups = set(host.ansible.get_variables()["group_names"]) & set(UNITS)
    found = {}
    for pattern in (UNITS[group] for group in sorted(groups)):
        listed = host.check_output(f"systemctl list-units --plain --no-legend --state=running '{pattern}'").split()
        if listed:
            found[listed[0]] = host.check_output(f"systemctl show {listed[0]} --property=MainPID --value")
    if not found:
        pytest.skip("no service of the kit runs here")
    return found


def test_a_service_may_not_gain_rights_and_systemd_says_so(host, running):
    for unit in running:
        lines = host.check_output(f"systemctl show {unit} --property={','.join(PROMISED)}").splitlines()
        assert dict(line.split("=", 1) for line in lines) == PROMISED, unit


def test_the_kernel_says_so_of_every_process_of_the_service(host, running):
    for unit in running:
        group = host.check_output(f"systemctl show {unit} --property=ControlGroup --value")
        # Its processes by their parents: the control group's directory is elsewhere under another hierarchy.
        program = (
            "for p in $(ls /proc | grep -E '^[0-9]+$'); do grep -qs '%s$' /proc/$p/cgroup && "
            "awk '/^(NoNewPrivs|Seccomp|CapEff|CapBnd):/ {printf \"%%s \", $2}' /proc/$p/status && echo; done || true"
        )
        processes = [line.split() for line in host.check_output(program % group).splitlines() if line.strip()]
        assert processes, f"{unit} has no process"
        for effective, bound, gains, filtered in processes:
            assert gains == "1" and filtered == "2", f"{unit}: a process may gain rights, or its calls are not filtered"
            assert not int(bound, 16) & KEYS_TO_THE_HOST and not int(effective, 16) & KEYS_TO_THE_HOST, unit


def test_systemd_judges_the_service_as_closed(host, running):
    for unit in running:
        said = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -n 1")
        assert float(said.split(":")[1].split()[0]) <= EXPOSURE_MOST, said


def test_a_service_sees_no_home_and_writes_nothing_of_the_system(host, running):
    """From within the service's own view of the files, where it has one: a container's systemd may give it none."""
    for unit, pid in running.items():
        if host.check_output(f"readlink /proc/{pid}/ns/mnt") == host.check_output("readlink /proc/1/ns/mnt"):
            pytest.skip("this host's systemd may not give a service a view of its own")
        inside = f"nsenter --target {pid} --mount"
        assert host.run(f"{inside} touch /usr/grunnfjell-was-here").rc != 0, unit
        assert host.run(f"{inside} touch /etc/grunnfjell-was-here").rc != 0, unit
        assert host.check_output(f"{inside} ls -A /root") == "", unit
