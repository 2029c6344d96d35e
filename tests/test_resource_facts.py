"""A host has the smaller of the machine's memory and its control group's limit, and the packages that dpkg calls installed."""

from pathlib import Path

import pytest
from resource_facts import installed_packages, memory_bytes

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
