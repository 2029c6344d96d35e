"""What role supervisor promises, as systemd reports it."""

from __future__ import annotations

import shlex

import pytest

testinfra_hosts = ["ansible://supervisor"]

# Seconds per unit in systemd's durations.
SECONDS = {"h": 3600, "min": 60, "s": 1}


def shown(host, *names: str) -> dict[str, str]:
    lines = host.check_output(f"systemctl show supervisor --property={','.join(names)}").splitlines()
    return dict(line.split("=", 1) for line in lines)


def seconds(duration: str) -> int:
    return sum(int(part.rstrip("hmins")) * SECONDS[part.lstrip("0123456789")] for part in duration.split())


def test_supervisord_runs_and_comes_back_at_boot(host):
    assert shown(host, "ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}


def test_a_stop_has_the_promised_timeout(host, inputs):
    assert seconds(shown(host, "TimeoutStopUSec")["TimeoutStopUSec"]) == inputs["supervisor_timeout_stop_sec"]


@pytest.mark.once
def test_no_worker_outlives_supervisord(host):
    assert shown(host, "KillMode") == {"KillMode": "mixed"}


@pytest.mark.once
def test_a_process_killed_for_its_memory_stops_no_other(host):
    """Review finding 16."""
    assert shown(host, "OOMPolicy") == {"OOMPolicy": "continue"}


@pytest.mark.once
def test_a_crashed_supervisord_is_always_restarted_within_a_second(host):
    assert shown(host, "Restart", "RestartUSec", "StartLimitIntervalUSec") == {
        "Restart": "on-failure",
        "RestartUSec": "500ms",
        "StartLimitIntervalUSec": "0",
    }


@pytest.mark.once
def test_supervisord_stops_before_the_services_that_its_programs_use(host):
    assert "pgbouncer.service" in shown(host, "After")["After"]


@pytest.mark.once
def test_the_running_supervisord_has_its_descriptors(host):
    service = shown(host, "MainPID", "LimitNOFILE")
    ceiling = int(host.check_output("awk '/^Max open files/ {print $5}' /proc/1/limits"))
    in_force = int(host.check_output(f"awk '/^Max open files/ {{print $4}}' /proc/{service['MainPID']}/limits"))
    assert in_force == min(int(service["LimitNOFILE"]), ceiling) > 4096


# Needs two seconds to end its work after SIGTERM.
WORK = "trap 'sleep 2; touch /run/promise.ended; exit 0' TERM; touch /run/promise.begun; while :; do sleep 0.1; done"


@pytest.mark.once
@pytest.mark.disruptive
def test_a_stop_of_the_service_waits_for_the_work_of_its_programs(host):
    # autostart=false: a signal during the start of the program could arrive before the trap.
    section = f'[program:promise]\ncommand=bash -c "{WORK}"\nautostart=false\nstopwaitsecs=60\nstartsecs=0\n'
    conf = "/etc/supervisor/conf.d/promise.conf"
    try:
        host.check_output(f"printf %s {shlex.quote(section)} > {conf}")
        host.check_output("supervisorctl update promise && supervisorctl start promise")
        host.check_output("timeout 30 sh -c 'until test -e /run/promise.begun; do sleep 0.1; done'")
        host.check_output("systemctl restart supervisor")
        assert host.file("/run/promise.ended").exists, host.check_output("tail -n 20 /var/log/supervisor/supervisord.log")
    finally:
        host.run(f"rm -f {conf} /run/promise.begun; supervisorctl update promise; rm -f /run/promise.*")


def test_a_program_gains_no_privileges_by_a_setuid_file(host):
    """Such as su. Every program inherits the restrictions of supervisord's process."""
    status = host.check_output("cat /proc/$(systemctl show supervisor --property=MainPID --value)/status")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert (fields["NoNewPrivs"].strip(), fields["Seccomp"].strip()) == ("1", "2")
    # Also after its next start.
    assert shown(host, "NoNewPrivileges") == {"NoNewPrivileges": "yes"}
