"""The measurements that a host keeps."""

from __future__ import annotations

import json
from typing import Any

RECORDS = "/var/lib/grunnfjell/acceptance"


def records(host) -> dict[str, dict[str, Any]]:
    """File name to record, newest first."""
    files = host.check_output(f"ls -r {RECORDS}").split()
    return {file: json.loads(host.check_output(f"cat {RECORDS}/{file}")) for file in files}
