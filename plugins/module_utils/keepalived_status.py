"""Which of the virtual addresses a host has now, and whether it could take over the others."""

from __future__ import annotations

import ipaddress
from typing import Any

from . import bounded, interfaces

# Both commands ask the kernel and systemd, which answer from memory.
TIMEOUT_S = 5.0


def member(wanted: dict[str, Any]) -> dict[str, Any]:
    """declared, held: virtual addresses.  running: whether keepalived runs."""
    present = interfaces.addresses(output("ip", "-json", "address", "show"))
    declared = [instance["virtual_ipaddress"] for instance in wanted["instances"]]
    held = [address for address in declared if str(ipaddress.ip_address(address)) in present]
    state = output("systemctl", "show", "keepalived", "--property=ActiveState", "--value").strip()
    return {"declared": declared, "held": held, "running": state == "active"}


def output(*argv: str) -> str:
    done = bounded.run(list(argv), TIMEOUT_S)
    if done.returncode:
        raise OSError(f"`{' '.join(argv)}` ended with {done.returncode}: {done.stderr.strip()[:200]}")
    return done.stdout
