"""What only a host can show is refused too: each by its sentence, with what the host itself says, and nothing is changed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from playing import Played
from wrong_fleet import TwoHosts

PORT = 18000


def refused(answer: Played, *sentences: str) -> None:
    for sentence in sentences:
        assert sentence in answer.said, answer.said
    assert answer.returncode != 0 and "Nothing was changed." in answer.said, answer.said
    assert answer.counts and answer.changed == {}, answer.said


def test_a_sound_fleet_on_these_hosts_is_let_through(fleet: TwoHosts) -> None:
    answer = fleet.judge()
    assert answer.returncode == 0, answer.said
    assert answer.counts and answer.changed == {}, answer.said


@pytest.fixture
def stranger(fleet: TwoHosts, second_host) -> Iterator[str]:
    """A program of somebody else's on the second host's port; it ends with the test."""
    address, unit = fleet.second["ansible_host"], "somebody-else.service"
    serve = f"import socket, time; s = socket.create_server(({address!r}, {PORT})); time.sleep(600)"
    second_host.run_test(f"systemd-run --quiet --collect --unit {unit} /usr/bin/python3 -c {shlex.quote(serve)}")
    second_host.run_test(f"timeout 20 sh -c 'until ss -Hltn sport = :{PORT} | grep -q .; do sleep 0.1; done'")
    yield unit
    second_host.run_test(f"systemctl stop {unit}")


def test_a_port_that_another_program_has_is_refused(fleet: TwoHosts, stranger: str) -> None:
    address = fleet.second["ansible_host"]
    refused(
        fleet.judge(second={"producer_bind": f"{address}:{PORT}"}),
        f"second: producer_bind wants port {PORT} on {address}, which the program python3 of {stranger} occupies.",
    )


def test_a_disk_that_is_too_small_is_refused(fleet: TwoHosts, second_host) -> None:
    blocks, size = second_host.check_output("stat --file-system --format '%a %S' /var").split()
    answer = fleet.judge(second={"topology_disk_free_min": 10**15})
    refused(answer, "but a run needs 931322.57 GiB for packages, releases and logs (topology_disk_free_min)")
    told = float(re.search(r"second: the filesystem of /var has ([\d.]+) GiB free", answer.said)[1])
    assert told == pytest.approx(int(blocks) * int(size) / 2**30, abs=2)  # others write meanwhile


def test_a_database_beyond_the_host_s_memory_is_refused(fleet: TwoHosts, second_host) -> None:
    limits = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
    total = int(second_host.check_output("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    given = [int(line) for line in second_host.run(f"cat {limits}").stdout.splitlines() if line.isdigit()]
    memory = min([total, *given]) // 2**20
    refused(
        fleet.judge(second={"postgresql_max_connections": 1_000_000}),
        f"second: postgresql_max_connections is 1000000, but {memory} MiB of memory are enough for",
    )


def test_more_clients_than_descriptors_are_refused(fleet: TwoHosts) -> None:
    answer = fleet.judge(second={"pgbouncer_max_client_conn": 2_000_000_000})
    refused(answer, "second: pgbouncer_max_client_conn is 2000000000, one descriptor each, but this host grants")


@pytest.fixture
def late(second_host) -> Iterator[str]:
    """A Python on the second host for which it is a minute ago."""
    home = "/var/tmp/late-python"
    shift = "import time; now = time.time; time.time = lambda: now() - 60"
    start = f'#!/bin/sh\nPYTHONPATH={home} exec /usr/bin/python3 "$@"'
    second_host.run_test(f"mkdir -p {home} && printf '%s\\n' {shlex.quote(shift)} > {home}/sitecustomize.py")
    second_host.run_test(f"printf '%s\\n' {shlex.quote(start)} > {home}/python3 && chmod 755 {home}/python3")
    yield f"{home}/python3"
    second_host.run_test(f"rm -r {home}")


def test_a_clock_that_is_off_is_refused(fleet: TwoHosts, late: str) -> None:
    answer = fleet.judge(second={"ansible_python_interpreter": late})
    refused(answer, "behind this machine's; the limit is 5 s (topology_clock_offset_max)")
    # Less what the question itself may have taken.
    assert 30 <= int(re.search(r"second: its clock is (\d+) s behind", answer.said)[1]) <= 60


def test_an_account_that_does_not_exist_is_refused(fleet: TwoHosts) -> None:
    """Review finding 36."""
    refused(
        fleet.judge(second={"application_user": "nobody-of-this-name"}),
        "second: application_user is 'nobody-of-this-name', but the host has no such account with a group of the same name.",
    )


def test_a_name_that_does_not_resolve_is_refused(fleet: TwoHosts) -> None:
    refused(
        fleet.judge(first={"application_broker_hosts": ["broker.invalid"]}),
        "application_broker_hosts holds broker.invalid, which this host cannot resolve",
    )


def test_a_host_that_does_not_answer_is_named_with_the_way_out(fleet: TwoHosts) -> None:
    answer = fleet.judge(second={"ansible_port": 1})
    refused(answer, "second does not let us in:", "correct its ansible_host", "--limit 'all:!second'")


def test_two_names_for_one_machine_are_refused(fleet: TwoHosts) -> None:
    answer = fleet.judge(second=fleet.first | {"topology_address": "10.255.255.254"})
    refused(answer, "first and second have the machine identity", "must not share a machine")
