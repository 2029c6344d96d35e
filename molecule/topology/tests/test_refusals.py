"""Faults that only a host can show are refused before any change, with the value that the host reports."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from playbook_runner import PlaybookRun
from wrong_fleet import TwoHosts

PORT = 18000


def refused(run: PlaybookRun, *sentences: str) -> None:
    run.assert_refused("Nothing was changed.", *sentences)


def test_a_valid_fleet_on_these_hosts_is_accepted(fleet: TwoHosts) -> None:
    run = fleet.run_topology()
    assert run.returncode == 0, run.text
    assert run.recap and run.changed == {}, run.text


@pytest.fixture
def other_program(fleet: TwoHosts, second_host) -> Iterator[str]:
    """The unit of another program that listens on the second host."""
    address, unit = fleet.second["ansible_host"], "other-program.service"
    serve = f"import socket, time; s = socket.create_server(({address!r}, {PORT})); time.sleep(600)"
    second_host.run_test(f"systemd-run --quiet --collect --unit {unit} /usr/bin/python3 -c {shlex.quote(serve)}")
    second_host.run_test(f"timeout 20 sh -c 'until ss -Hltn sport = :{PORT} | grep -q .; do sleep 0.1; done'")
    yield unit
    second_host.run_test(f"systemctl stop {unit}")


def test_a_port_in_use_by_another_program_is_refused(fleet: TwoHosts, other_program: str) -> None:
    address = fleet.second["ansible_host"]
    refused(
        fleet.run_topology(second={"producer_bind": f"{address}:{PORT}"}),
        f"second: producer_bind wants port {PORT} on {address}, which the program python3 of {other_program} occupies.",
    )


def test_a_disk_that_is_too_small_is_refused(fleet: TwoHosts, second_host) -> None:
    blocks, size = second_host.check_output("stat --file-system --format '%a %S' /var").split()
    run = fleet.run_topology(second={"topology_disk_free_min": 10**15})
    refused(run, "but a run needs 931322.57 GiB for packages, releases and logs (topology_disk_free_min)")
    free_gib = float(re.search(r"second: the filesystem of /var has ([\d.]+) GiB free", run.text)[1])
    assert free_gib == pytest.approx(int(blocks) * int(size) / 2**30, abs=2)  # other programs write meanwhile


def test_a_database_beyond_the_host_s_memory_is_refused(fleet: TwoHosts, second_host) -> None:
    limits = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
    total = int(second_host.check_output("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    cgroup_limits = [int(line) for line in second_host.run(f"cat {limits}").stdout.splitlines() if line.isdigit()]
    memory = min([total, *cgroup_limits]) // 2**20
    refused(
        fleet.run_topology(second={"postgresql_max_connections": 1_000_000}),
        f"second: postgresql_max_connections is 1000000, but {memory} MiB of memory are enough for",
    )


def test_more_clients_than_descriptors_are_refused(fleet: TwoHosts) -> None:
    run = fleet.run_topology(second={"pgbouncer_max_client_conn": 2_000_000_000})
    refused(run, "second: pgbouncer_max_client_conn is 2000000000, one descriptor each, but this host grants")


@pytest.fixture
def slow_clock(second_host) -> Iterator[str]:
    """A Python on the second host whose clock is a minute behind."""
    home = "/var/tmp/late-python"
    shift = "import time; now = time.time; time.time = lambda: now() - 60"
    start = f'#!/bin/sh\nPYTHONPATH={home} exec /usr/bin/python3 "$@"'
    second_host.run_test(f"mkdir -p {home} && printf '%s\\n' {shlex.quote(shift)} > {home}/sitecustomize.py")
    second_host.run_test(f"printf '%s\\n' {shlex.quote(start)} > {home}/python3 && chmod 755 {home}/python3")
    yield f"{home}/python3"
    second_host.run_test(f"rm -r {home}")


def test_a_wrong_clock_is_refused(fleet: TwoHosts, slow_clock: str) -> None:
    run = fleet.run_topology(second={"ansible_python_interpreter": slow_clock})
    refused(run, "behind this machine's; the limit is 5 s (topology_clock_offset_max)")
    # Less the duration of the measurement.
    assert 30 <= int(re.search(r"second: its clock is (\d+) s behind", run.text)[1]) <= 60


def test_an_account_that_does_not_exist_is_refused(fleet: TwoHosts) -> None:
    """Review finding 36."""
    refused(
        fleet.run_topology(second={"application_user": "nobody-of-this-name"}),
        "second: application_user is 'nobody-of-this-name', but the host has no such account with a group of the same name.",
    )


def test_a_name_that_does_not_resolve_is_refused(fleet: TwoHosts) -> None:
    refused(
        fleet.run_topology(first={"application_broker_hosts": ["broker.invalid"]}),
        "application_broker_hosts holds broker.invalid, which this host cannot resolve",
    )


def test_a_host_that_does_not_answer_is_named_with_the_remedy(fleet: TwoHosts) -> None:
    run = fleet.run_topology(second={"ansible_port": 1})
    refused(run, "second does not let us in:", "correct its ansible_host", "--limit 'all:!second'")


def test_two_names_for_one_machine_are_refused(fleet: TwoHosts) -> None:
    run = fleet.run_topology(second=fleet.first | {"topology_address": "10.255.255.254"})
    refused(run, "first and second have the machine identity", "must not share a machine")
