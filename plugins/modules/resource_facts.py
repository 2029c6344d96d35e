#!/usr/bin/python
"""What a host really has: memory, processors, installed packages."""

DOCUMENTATION = r"""
module: resource_facts
short_description: What a host really has
description:
  - A container or a confined service reads the machine's memory in C(/proc/meminfo), while its control group ends it
    at a smaller limit. Whatever is sized by memory must take the smaller of the two.
  - The names of the installed packages come along, since dpkg tells them in milliseconds. A role that finds its own among
    them spares a run of apt, which takes a second of both sides.
author: maintainers
"""

EXAMPLES = r"""
- name: Measure what the host really has
  resource_facts:
"""

RETURN = r"""
ansible_facts:
  description: >-
    C(resources) with C(memory_bytes) (int, bytes), C(cpus) (int) and C(descriptors_max) (int, the most that a service may be
    granted); C(installed_packages), names of Debian packages.
  returned: always
  type: dict
  sample: {"resources": {"memory_bytes": 2147483648, "cpus": 2, "descriptors_max": 1048576}, "installed_packages": ["adduser"]}
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

CGROUP_LIMITS = (
    "sys/fs/cgroup/memory.max",  # cgroup v2
    "sys/fs/cgroup/memory/memory.limit_in_bytes",  # cgroup v1
)
# Who has it may raise a hard limit (capabilities(7)).
CAP_SYS_RESOURCE = 24


def memory_total(meminfo: str) -> int:
    """Bytes of memory that the kernel reports in the text of /proc/meminfo."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/meminfo has no MemTotal line")


def memory_bytes(root: Path = Path("/")) -> int:
    """The smaller of the machine's memory and the control group's limit, in bytes."""
    bounds = [memory_total((root / "proc/meminfo").read_text())]
    for limit in CGROUP_LIMITS:
        try:
            text = (root / limit).read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max" means no limit
            bounds.append(int(text))
    return min(bounds)


def descriptors(root: Path = Path("/")) -> int:
    """Open files that systemd can grant a service: its own hard limit, or the kernel's where it may raise it."""
    limits = (root / "proc/1/limits").read_text().splitlines()
    hard = next(line.split()[4] for line in limits if line.startswith("Max open files"))
    capabilities = next(
        int(line.split()[1], 16) for line in (root / "proc/1/status").read_text().splitlines() if line.startswith("CapEff:")
    )
    most = int((root / "proc/sys/fs/nr_open").read_text())
    return most if hard == "unlimited" or capabilities >> CAP_SYS_RESOURCE & 1 else int(hard)


def installed_packages(listing: str) -> list[str]:
    """Names out of dpkg-query's lines of status and package; what was removed with its settings left is not installed."""
    return [name for status, name in (line.split() for line in listing.splitlines()) if status == "ii"]


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    listing = module.run_command(["dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Package}\\n"], check_rc=True)[1]
    resources = {"memory_bytes": memory_bytes(), "cpus": len(os.sched_getaffinity(0)), "descriptors_max": descriptors()}
    module.exit_json(ansible_facts={"resources": resources, "installed_packages": installed_packages(listing)})


if __name__ == "__main__":
    main()
