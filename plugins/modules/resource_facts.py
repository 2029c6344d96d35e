#!/usr/bin/python
"""Memory and processors that a host can really use."""

DOCUMENTATION = r"""
module: resource_facts
short_description: Memory and processors that a host can really use
description:
  - A container or a confined service reads the machine's memory in C(/proc/meminfo), while its control group ends it
    at a smaller limit. Whatever is sized by memory must take the smaller of the two.
  - Sets C(ansible_facts.resources).
author: maintainers
"""

EXAMPLES = r"""
- name: Measure what the host really has
  resource_facts:
"""

RETURN = r"""
ansible_facts:
  description: C(resources) with C(memory_bytes) (int, bytes) and C(cpus) (int).
  returned: always
  type: dict
  sample: {"resources": {"memory_bytes": 2147483648, "cpus": 2}}
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

CGROUP_LIMITS = (
    "sys/fs/cgroup/memory.max",  # cgroup v2
    "sys/fs/cgroup/memory/memory.limit_in_bytes",  # cgroup v1
)


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


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    resources = {"memory_bytes": memory_bytes(), "cpus": len(os.sched_getaffinity(0))}
    module.exit_json(ansible_facts={"resources": resources})


if __name__ == "__main__":
    main()
