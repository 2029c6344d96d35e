"""What role supervisor promises, asked of systemd."""

from __future__ import annotations

testinfra_hosts = ["ansible://supervisor"]


def shown(host, *names: str) -> dict[str, str]:
    lines = host.check_output(f"systemctl show supervisor --property={','.join(names)}").splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_supervisord_runs_and_comes_back_at_boot(host):
    assert shown(host, "ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}


def test_a_stop_is_granted_more_than_its_longest_program(host):
    assert shown(host, "TimeoutStopUSec") == {"TimeoutStopUSec": "11min"}


def test_no_worker_outlives_supervisord(host):
    assert shown(host, "KillMode") == {"KillMode": "mixed"}


def test_supervisord_stops_before_what_its_programs_write_to(host):
    assert "pgbouncer.service" in shown(host, "After")["After"]


def test_the_running_supervisord_has_its_descriptors(host):
    pid = shown(host, "MainPID")["MainPID"]
    assert "16384" in host.check_output(f"grep 'Max open files' /proc/{pid}/limits")
