#!/usr/bin/python
"""Measures a host's memory, processors, disk space, listening programs, clock and installed packages."""

DOCUMENTATION = r"""
module: resource_facts
short_description: Measure a host's resources
description:
  - In a container C(/proc/meminfo) shows the machine's memory, but the control group kills processes at a smaller limit. Sizes
    must be computed from the smaller of the two.
  - Includes the names of installed packages, which dpkg lists in milliseconds. A role that finds its packages among them saves a
    run of apt, which takes a second.
  - Includes the host's clock, from which the action of this name computes C(clock_offset_seconds).
options:
  accounts: {description: Accounts to look up., type: list, elements: str, default: []}
author: maintainers
"""

EXAMPLES = r"""
- name: Measure the host's resources
  resource_facts:
"""

RETURN = r"""
ansible_facts:
  description: >-
    C(resources) with C(memory_bytes) (int, bytes), C(cpus) (int), C(disk_free_bytes) (path to bytes), C(descriptors_max)
    (int, the most that a service may be granted), C(filters_calls) (bool, whether systemd may filter the calls of a service
    that it starts as another account: a container's may not), C(listening) (TCP sockets, each C(address), C(port),
    C(program), C(unit), C(user)), C(pki) (fingerprints of the authorities that the host trusts, C(trusted), and of those
    that issued its certificates, C(issuers)), C(outside) (servers that it is set up to use: C(resolvers), C(time_servers),
    C(apt) and C(pip), each C(address), C(port), C(file) and whether the host connects to it directly, C(direct); an empty
    address is pip's default index; C(names) to their addresses), C(base_chains) (of other firewalls: each C(chain),
    C(hook), C(policy), C(rules), C(closes)), C(interfaces) (address to its C(interface) and C(network)),
    C(clock_offset_seconds) (float, above 0 when the host is ahead), C(controller) (source address of this run's SSH
    connection; null without SSH), C(ssh_port) (int, sshd's port of that connection), C(accounts) (each of I(accounts) →
    whether it exists, with a group of the same name), C(version) (of the kit that last ran on the host; null before 1.0),
    C(broker_nodes) (RabbitMQ nodes whose data is on the host, each to the members of its cluster by that data) and
    C(firewall) (whether the kit's firewall is on the host);
    C(installed_packages), names of Debian packages; C(unsettled), with C(cloud_init) (whether it still configures this
    boot) and C(dpkg) (whether it was interrupted, so apt refuses to work).
  returned: always
  type: dict
  sample: {"resources": {"memory_bytes": 2147483648, "cpus": 2}, "installed_packages": ["adduser"]}
"""

import grp
import os
import pwd
import re
import time
from contextlib import suppress
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import (
    base_chains,
    interfaces,
    kit_version,
    outside,
    pgbackrest_repository,
    pki_files,
    rabbitmq_node,
    restic_repository,
    sockets,
)

CGROUP_LIMITS = (
    "sys/fs/cgroup/memory.max",  # cgroup v2
    "sys/fs/cgroup/memory/memory.limit_in_bytes",  # cgroup v1
)
# Directories of packages, data and logs, and of releases; one filesystem on most hosts.
DIRECTORIES = ("/var", "/opt")
CAP_SYS_RESOURCE = 24
CAP_SYS_ADMIN = 21


def memory_total(meminfo: str) -> int:
    """Total memory in bytes, from the text of /proc/meminfo."""
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


def disk_free_bytes() -> dict[str, int]:
    """Directory to the bytes that are free for root; one entry for each filesystem."""
    free, seen = {}, set()
    for directory in DIRECTORIES:
        if os.path.isdir(directory) and (device := os.stat(directory).st_dev) not in seen:
            seen.add(device)
            disk = os.statvfs(directory)
            free[directory] = disk.f_frsize * disk.f_bavail
    return free


def descriptors_max(root: Path = Path("/")) -> int:
    """The highest descriptor limit that systemd can grant: the kernel's if it may raise limits, else its own."""
    status = dict(line.split(":", 1) for line in (root / "proc/1/status").read_text().splitlines() if ":" in line)
    if int(status["CapEff"], 16) >> CAP_SYS_RESOURCE & 1:
        return int((root / "proc/sys/fs/nr_open").read_text())
    for line in (root / "proc/1/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return int(line.split()[4])
    raise ValueError("/proc/1/limits has no line for open files")


def unit_of(cgroups: str) -> str:
    """The systemd unit in the text of /proc/PID/cgroup; empty without one."""
    units = re.findall(r"/([^/\n]+\.(?:service|socket|scope))\b", cgroups)
    return units[-1] if units else ""


def listening(root: Path = Path("/")) -> list[dict[str, object]]:
    """Listening TCP sockets and their programs."""
    by_inode = {row.inode: row for row in sockets.table("tcp", root) if row.state == sockets.LISTEN}
    owners = sockets.holders(root)
    result = []
    for inode, row in by_inode.items():
        process, unit = owners.get(inode), ""
        if process:
            with suppress(OSError):  # the process has ended
                unit = unit_of((process / "cgroup").read_text())
        address, port = row.local
        result.append({"address": address, "port": port, "program": sockets.program_of(process), "unit": unit}
                      | {"user": sockets.user_of(row.uid)})  # fmt: skip
    return sorted(result, key=lambda entry: (entry["port"], entry["address"]))


def connection(process: str = "self", root: Path = Path("/")) -> tuple[str | None, int | None]:
    """The source address of this run's SSH connection, and sshd's port.

    sudo removes SSH_CONNECTION, so the nearest ancestor that has it counts.
    """
    while process != "0":
        try:
            environment = (root / "proc" / process / "environ").read_bytes().split(b"\0")
            parent = re.search(r"^PPid:\s+(\d+)", (root / "proc" / process / "status").read_text(), re.MULTILINE)
        except OSError:
            break
        for entry in environment:
            if entry.startswith(b"SSH_CONNECTION="):
                address, _, _, port = entry.partition(b"=")[2].decode().split()
                return address.partition("%")[0], int(port)
        process = parent[1] if parent else "0"
    return None, None


def installed_packages(listing: str) -> list[str]:
    """Names from dpkg-query's lines of status and package; removed packages whose settings remain do not count."""
    return [name for status, name in (line.split() for line in listing.splitlines()) if status == "ii"]


def account_exists(name: str) -> bool:
    """Whether an account and a group of this name exist, in files or in a directory service."""
    try:
        pwd.getpwnam(name)
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def cloud_init_works(root: Path = Path("/")) -> bool:
    """Whether cloud-init is still running for this boot; it upgrades packages, and so holds apt's locks."""
    run = root / "run/cloud-init"
    return run.is_dir() and not any((run / name).exists() for name in ("result.json", "disabled"))


def dpkg_interrupted(listing: str, root: Path = Path("/")) -> bool:
    """Whether a package is half installed, unpacked or half configured, or dpkg's journal remains."""
    updates = root / "var/lib/dpkg/updates"
    half = any(status[1] in "UFH" for status, _ in (line.split() for line in listing.splitlines()))
    return half or (updates.is_dir() and any(updates.iterdir()))


def filters_calls(root: Path = Path("/")) -> bool:
    """Whether systemd has CAP_SYS_ADMIN: without it, systemd 256 and later start no service with both User= and a filter."""
    bounding = re.search(r"^CapBnd:\s*([0-9a-f]+)$", (root / "proc/1/status").read_text(), re.MULTILINE)
    return bool(bounding and int(bounding[1], 16) & 1 << CAP_SYS_ADMIN)


def main() -> None:
    module = AnsibleModule({"accounts": {"type": "list", "elements": "str", "default": []}}, supports_check_mode=True)
    listing = module.run_command(["dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Package}\\n"], check_rc=True)[1]

    def run(*argv: str) -> str:
        path = module.get_bin_path(argv[0], opt_dirs=["/usr/sbin", "/sbin"])
        return module.run_command([path, *argv[1:]])[1] if path else ""

    controller, ssh_port = connection()
    resources = {
        "memory_bytes": memory_bytes(),
        "cpus": len(os.sched_getaffinity(0)),
        "disk_free_bytes": disk_free_bytes(),
        "descriptors_max": descriptors_max(),
        "filters_calls": filters_calls(),
        "listening": listening(),
        "pki": pki_files.described(),
        "outside": outside.measured(Path("/"), run),
        "base_chains": base_chains.measured(Path("/"), run),
        "interfaces": interfaces.addresses(run("ip", "-json", "address", "show")),
        "controller": controller,
        "ssh_port": ssh_port,
        "accounts": {name: account_exists(name) for name in module.params["accounts"]},
        "version": kit_version.recorded(),
        "backups": pgbackrest_repository.measured(),
        "file_backups": restic_repository.measured(),
        "broker_nodes": rabbitmq_node.measured(),
        "firewall": os.path.exists("/etc/systemd/system/grunnfjell-firewall.service"),
        "restic": any(os.path.exists(f"/etc/systemd/system/grunnfjell-restic{kind}.service") for kind in ("", "-backup")),
    }
    unsettled = {"cloud_init": cloud_init_works(), "dpkg": dpkg_interrupted(listing)}
    facts = {"resources": resources, "installed_packages": installed_packages(listing), "unsettled": unsettled}
    module.exit_json(ansible_facts=facts, clock=time.time())


if __name__ == "__main__":
    main()
