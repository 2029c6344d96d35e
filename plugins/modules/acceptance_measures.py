#!/usr/bin/python
"""Measures a host's virtualization, disk, processors and round trip to the exchange point, and keeps the records."""

from __future__ import annotations

DOCUMENTATION = r"""
module: acceptance_measures
short_description: Measure what a host can do
description:
  - C(ask) returns measures that cost nothing, and the newest record. C(measure) loads disk and processors for a bounded time, at
    low priority. C(record) writes the result. The action M(acceptance) calls it and judges the result.
options:
  do: {description: What to do., type: str, choices: [ask, measure, record], required: true}
  directory: {description: 'The data directory. If it does not exist yet, its nearest existing parent is measured.', type: path}
  file_bytes: {description: Size of the file that is read at random., type: int}
  seconds: {description: Longest duration of each measure., type: int}
  exchange_address: {description: Target of the round trip; not measured if empty., type: str, default: ''}
  exchange_port: {description: TCP port there; 0 for ICMP echo., type: int, default: 0}
  records: {description: Directory of the records., type: path, default: /var/lib/grunnfjell/acceptance}
  record: {description: The record that C(record) writes., type: dict}
  keep: {description: Number of records to keep., type: int, default: 12}
author: maintainers
"""

EXAMPLES = r"""
- name: Measure what costs nothing
  acceptance_measures:
    do: ask
    directory: /var/lib
"""

RETURN = r"""
measures: {description: Measure to value., returned: success, type: dict}
errors: {description: Measure to why it has no value., returned: success, type: dict}
record: {description: The newest record., returned: ask, type: dict}
machine_id: {description: The machine's identity., returned: ask, type: str}
now: {description: The host's time in UTC., returned: success, type: str}
"""

import json
import os
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.bounded import run
from ..module_utils.fio import NotMeasured, available_fio, fsync, iops, nearest
from ..module_utils.whole_files import ManagedFile, usual_umask, write_atomically

ROUND_TRIPS = 11
ROUND_TRIP_TIMEOUT = 1.0


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def virtualization() -> str:
    """As systemd-detect-virt names it; `none` for bare metal. A container on a guest is a container."""
    for option in ("--container", "--vm"):
        try:
            kind = run(["systemd-detect-virt", option], timeout=10).stdout.strip()
        except OSError as error:
            raise NotMeasured(f"systemd-detect-virt: {error}") from error
        if kind != "none":
            break
    if not kind:
        raise NotMeasured("systemd-detect-virt printed nothing")
    return kind


def disk_bytes(directory: str) -> int:
    disk = os.statvfs(nearest(directory))
    return disk.f_frsize * disk.f_blocks


def own_name() -> str:
    """The addresses of the host's name that belong to the host; `nothing` if there is none."""
    try:
        addresses = socket.getaddrinfo(socket.gethostname(), 0, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return "nothing"
    own = []
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
        except OSError:
            continue  # another host's
        own.append(address[0])
    return ", ".join(dict.fromkeys(own)) or "nothing"


def stolen(before: str, after: str) -> float:
    """Share of processor time stolen by the hypervisor between two readings of /proc/stat."""
    first, second = ([int(field) for field in text.splitlines()[0].split()[1:9]] for text in (before, after))
    elapsed = [late - early for early, late in zip(first, second, strict=True)]
    return max(0.0, elapsed[7] / sum(elapsed)) if sum(elapsed) > 0 else 0.0


def steal(seconds: int) -> float:
    """Steal only shows under load, so this keeps every processor busy, at the lowest priority, while measuring."""
    before, until, children = Path("/proc/stat").read_text(), time.monotonic() + seconds, []
    for _ in os.sched_getaffinity(0):
        if (child := os.fork()) == 0:
            try:
                os.nice(19)
                while time.monotonic() < until:
                    pass
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return round(stolen(before, Path("/proc/stat").read_text()), 4)


def checksum(packet: bytes) -> int:
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def echo(family: int, address: Any, number: int) -> None:
    """Sends one ICMP echo and waits for the answer."""
    protocol, kind, answer = (
        (socket.IPPROTO_ICMP, 8, 0) if family == socket.AF_INET else (socket.getprotobyname("ipv6-icmp"), 128, 129)
    )
    identity = os.getpid() & 0xFFFF
    packet = struct.pack("!BBHHHQ", kind, 0, 0, identity, number, 0)
    packet = struct.pack("!BBHHHQ", kind, 0, checksum(packet), identity, number, 0)  # for IPv6 the kernel overwrites it
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        until = time.monotonic() + ROUND_TRIP_TIMEOUT
        raw.sendto(packet, address)
        while (left := until - time.monotonic()) > 0:
            raw.settimeout(left)
            received, (sender, *_) = raw.recvfrom(1024)
            body = received[(received[0] & 15) * 4 :] if family == socket.AF_INET else received
            if sender == address[0] and body[0] == answer and struct.unpack("!HH", body[4:8]) == (identity, number):
                return
    raise TimeoutError("no answer")


def connect(family: int, address: Any, number: int) -> None:
    """Opens one TCP connection; a refusal takes the same round trip."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(ROUND_TRIP_TIMEOUT)
        with suppress(ConnectionRefusedError):
            probe.connect(address)


def exchange(address: str, port: int) -> float:
    """The median of several round trips in milliseconds."""
    if not address:
        raise NotMeasured("acceptance_exchange_address is empty")
    probe = connect if port else echo
    took, failed = [], None
    try:
        family, _, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        for number in range(ROUND_TRIPS):
            began = time.perf_counter()
            try:
                probe(family, target, number)
            except OSError as error:
                failed = error
                if number == 2 and not took:
                    break  # nobody answers
                continue
            took.append((time.perf_counter() - began) * 1000)
    except OSError as error:
        failed = error
    by = f"TCP port {port}" if port else "ICMP echo"
    if len(took) <= ROUND_TRIPS // 2:
        raise NotMeasured(f"{address} answered {len(took)} of {ROUND_TRIPS} probes by {by} ({failed})")
    return round(statistics.median(took), 3)


def gather(questions: dict[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    measures, errors = {}, {}
    for name, question in questions.items():
        try:
            measures[name] = question()
        except NotMeasured as error:
            errors[name] = str(error)
    return measures, errors


def newest(records: Path) -> dict[str, Any] | None:
    """The newest readable record; the file name is its date."""
    for path in sorted(records.glob("*.json"), reverse=True):
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            continue
    return None


def keep(records: Path, record: dict[str, Any], number: int) -> Path:
    """Writes the record and deletes the oldest ones."""
    stamp = datetime.fromisoformat(record["measured_at"]).strftime("%Y%m%dT%H%M%SZ")
    path = records / f"{stamp}.json"
    write_atomically(ManagedFile(str(path), json.dumps(record, indent=2) + "\n", "root", "root", 0o644))
    for old in sorted(records.glob("*.json"))[:-number]:
        old.unlink()
    return path


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "do": {"type": "str", "choices": ["ask", "measure", "record"], "required": True},
            "directory": {"type": "path"},
            "file_bytes": {"type": "int"},
            "seconds": {"type": "int"},
            "exchange_address": {"type": "str", "default": ""},
            "exchange_port": {"type": "int", "default": 0},
            "records": {"type": "path", "default": "/var/lib/grunnfjell/acceptance"},
            "record": {"type": "dict"},
            "keep": {"type": "int", "default": 12},
        },
        required_if=[
            ("do", "ask", ["directory"]),
            ("do", "measure", ["directory", "file_bytes", "seconds"]),
            ("do", "record", ["record"]),
        ],
        supports_check_mode=True,
    )
    given = module.params
    records = Path(given["records"])
    if given["do"] == "record":
        path = records if module.check_mode else keep(records, given["record"], given["keep"])
        module.exit_json(changed=True, path=str(path))
    if given["do"] == "ask":
        measures, errors = gather(
            {"virtualization": virtualization, "disk": lambda: disk_bytes(given["directory"]), "own_name": own_name}
        )
        identity = Path("/etc/machine-id").read_text().strip()
        module.exit_json(measures=measures, errors=errors, record=newest(records), machine_id=identity, now=now())
    if module.check_mode:
        module.exit_json(measures={}, errors={}, now=now())
    sys.stdout.flush()  # or the children would print the buffer again
    place, seconds = given["directory"], given["seconds"]
    measures, errors = gather(
        {"steal": lambda: steal(seconds), "exchange": lambda: exchange(given["exchange_address"], given["exchange_port"])}
    )
    try:
        with available_fio(records.parent) as fio:
            disk = gather(
                {"iops": lambda: iops(fio, place, given["file_bytes"], seconds), "fsync": lambda: fsync(fio, place, seconds)}
            )
    except NotMeasured as error:
        disk = {}, {"iops": str(error), "fsync": str(error)}
    measures, errors = measures | disk[0], errors | disk[1]
    module.exit_json(measures=measures, errors=errors, now=now())


if __name__ == "__main__":
    main()
