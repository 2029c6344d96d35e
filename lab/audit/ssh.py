"""ssh-audit against a host's SSH, and which of its findings are failures."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from lab.audit.tools import tool


def failures(report: dict[str, Any]) -> list[str]:
    """Each algorithm that ssh-audit calls a failure, with its reason; docs/hardening.md lists the warnings."""
    return [
        f"{kind} {entry['algorithm']}: {reason}"
        for kind in ("kex", "key", "enc", "mac")
        for entry in report.get(kind, [])
        for reason in entry.get("notes", {}).get("fail", [])
    ]


def audit(address: str, port: int) -> list[str]:
    command = [tool("ssh-audit"), "--json", "--skip-rate-test", "--port", str(port), address]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return [f"ssh-audit gave no answer: {(done.stderr or done.stdout).strip()[-300:]}"]
    if not report.get("kex") or not report.get("key"):
        return ["ssh-audit saw no algorithm of this host"]
    return failures(report)
