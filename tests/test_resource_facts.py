"""A host has the smaller of the machine's memory and its control group's limit, and the packages that dpkg calls installed."""

from pathlib import Path

import pytest
from resource_facts import descriptors, installed_packages, memory_bytes

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
def test_the_smaller_bound_counts(tmp_path: Path, file: str | None, limit: str | None, expected: int) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemTotal:       {MACHINE // 1024} kB\nMemFree:        1 kB\n")
    if file:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(f"{limit}\n")
    assert memory_bytes(tmp_path) == expected


def test_only_what_is_installed_counts_as_installed() -> None:
    assert installed_packages("ii adduser\nrc nginx\nii apt\nun vim\n") == ["adduser", "apt"]


@pytest.mark.parametrize(
    ("hard", "capabilities", "expected"),
    [("20000", "00000000a88435fb", 20000), ("20000", "000001ffffffffff", 1048576), ("unlimited", "0", 1048576)],
)
def test_a_service_gets_what_systemd_has_or_may_raise(tmp_path: Path, hard: str, capabilities: str, expected: int) -> None:
    for file, text in {
        "proc/1/limits": f"Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  {hard}  files\n",
        "proc/1/status": f"Name:\tsystemd\nCapEff:\t{capabilities}\n",
        "proc/sys/fs/nr_open": "1048576\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    assert descriptors(tmp_path) == expected
