"""The measurements of a host: memory, packages, clock, sockets, limits, and what is still running on it."""

import os
import socket
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.action.resource_facts import clock_offset
from ansible_collections.grunnfjell.platform.plugins.module_utils.sockets import address_of
from ansible_collections.grunnfjell.platform.plugins.modules.resource_facts import (
    cloud_init_works,
    connection,
    descriptors_max,
    dpkg_interrupted,
    filters_calls,
    installed_packages,
    listening,
    memory_bytes,
    unit_of,
)

MACHINE = 24 * 1024**3


@pytest.mark.parametrize(
    ("file", "limit", "expected"),
    [
        (None, None, MACHINE),
        ("sys/fs/cgroup/memory.max", "max", MACHINE),
        ("sys/fs/cgroup/memory.max", str(2 * 1024**3), 2 * 1024**3),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", str(1024**3), 1024**3),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", str(2**63 - 4096), MACHINE),
    ],
)
def test_memory_is_the_smaller_of_the_machine_and_the_control_group(
    tmp_path: Path, write, file: str | None, limit: str | None, expected: int
) -> None:
    write("proc/meminfo", f"MemTotal:       {MACHINE // 1024} kB\nMemFree:        1 kB\n")
    if file:
        write(file, f"{limit}\n")
    assert memory_bytes(tmp_path) == expected


def test_only_installed_packages_are_listed() -> None:
    assert installed_packages("ii adduser\nrc nginx\nii apt\nun vim\n") == ["adduser", "apt"]


@pytest.mark.parametrize(
    ("asked", "clock", "answered", "offset"),
    [(100, 101, 102, 0), (100, 100, 102, 0), (100, 130, 102, 28), (100, 70, 102, -30), (100, 108, 109, 0)],
)
def test_the_offset_of_a_clock_leaves_out_the_round_trip(asked: float, clock: float, answered: float, offset: float) -> None:
    assert clock_offset(asked, clock, answered) == offset


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("0B004D0A", "10.77.0.11"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000B004D0A", "10.77.0.11"),
    ],
)
def test_addresses_are_read_from_the_tables_of_the_kernel(written: str, address: str) -> None:
    assert address_of(written) == address


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_listening_socket_is_reported_with_its_program(family: socket.AddressFamily) -> None:
    loopback = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((loopback, 0), family=family) as server:
        port = server.getsockname()[1]
        (listener,) = [listener for listener in listening() if listener["port"] == port]
    assert listener["address"] == loopback
    assert listener["program"] == Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    assert port not in [listener["port"] for listener in listening()]


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("9:name=systemd:/libpod/libpod-1/system.slice/system-postgresql.slice/postgresql@17-main.service\n8:pids:/\n",
         "postgresql@17-main.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "session-3.scope"),
        ("0::/\n", ""),
    ],
)  # fmt: skip
def test_the_unit_of_a_program_is_read_from_its_control_group(cgroups: str, unit: str) -> None:
    assert unit_of(cgroups) == unit


@pytest.mark.parametrize(("capabilities", "most"), [("000001ffffffffff", 1048576), ("00000000a80435fb", 20000)])
def test_the_limit_of_descriptors_is_what_the_service_manager_may_set(
    tmp_path: Path, write, capabilities: str, most: int
) -> None:
    write("proc/1/status", f"Name:\tsystemd\nCapEff:\t{capabilities}\n")
    write("proc/1/limits", "Max open files            1024                 20000                files     \n")
    write("proc/sys/fs/nr_open", "1048576\n")
    assert descriptors_max(tmp_path) == most


@pytest.mark.parametrize(("own", "parents", "came"), [
    (b"SSH_CONNECTION=10.0.0.1 50022 10.0.0.2 2222", b"", ("10.0.0.1", 2222)),
    # sudo removes it, but its parent shell has it.
    (b"SUDO_USER=admin", b"PATH=/bin\0SSH_CONNECTION=2001:db8::1 50022 2001:db8::2 22", ("2001:db8::1", 22)),
    (b"HOME=/root", b"HOME=/root", (None, None)),
])  # fmt: skip
def test_the_control_node_is_known_by_the_address_of_its_connection(
    tmp_path: Path, write, own: bytes, parents: bytes, came: tuple[str | None, int | None]
) -> None:
    """Review finding 34: the fourth field of SSH_CONNECTION is the port."""
    for process, parent, environment in (("self", "7", own), ("7", "0", parents)):
        write(f"proc/{process}/environ", environment.decode())
        write(f"proc/{process}/status", f"Name:\tpython3\nPPid:\t{parent}\n")
    assert connection(root=tmp_path) == came


@pytest.mark.parametrize(("bounding", "may"), [("000001ffffffffff", True), ("00000000a88435fb", False)])
def test_a_systemd_without_the_administrators_capability_filters_no_calls(
    tmp_path: Path, write, bounding: str, may: bool
) -> None:
    write("proc/1/status", f"Name:\tsystemd\nCapBnd:\t{bounding}\n")
    assert filters_calls(tmp_path) is may


@pytest.mark.parametrize(
    ("files", "works"),
    [
        ([], False),
        (["run/cloud-init/status.json"], True),
        (["run/cloud-init/result.json"], False),
        (["run/cloud-init/disabled"], False),
    ],
)
def test_an_unfinished_first_boot_is_noticed(tmp_path, write, files, works):
    """Review finding 30."""
    for name in files:
        write(name)
    assert cloud_init_works(tmp_path) is works


@pytest.mark.parametrize(
    ("listing", "journal", "interrupted"),
    [
        ("ii  adduser\nrc  nginx\n", [], False),
        ("ii  adduser\niU  hello\n", [], True),
        ("iF  hello\n", [], True),
        ("iHR hello\n", [], True),
        ("ii  adduser\n", ["0001"], True),
    ],
)
def test_an_interrupted_dpkg_is_noticed(tmp_path, write, listing, journal, interrupted):
    """Review finding 30: apt refuses to work until dpkg has finished."""
    (tmp_path / "var/lib/dpkg/updates").mkdir(parents=True)
    for name in journal:
        write(f"var/lib/dpkg/updates/{name}")
    assert dpkg_interrupted(listing, tmp_path) is interrupted
