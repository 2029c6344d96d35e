"""What a host's file backups hold, as restic reports it."""

from __future__ import annotations

import json
from typing import Any

from deadline import until
from testinfra.host import Host

PROGRAM = "/usr/local/lib/grunnfjell/restic"
CLIENT = "/etc/grunnfjell/restic/client.json"
RECORD = "/var/lib/grunnfjell/restic/backups.json"


def settings(host: Host) -> dict[str, Any]:
    return json.loads(host.check_output(f"cat {CLIENT}"))


def recorded(host: Host) -> dict[str, Any]:
    """The last success and failure at each repository host."""
    file = host.file(RECORD)
    return json.loads(file.content_string) if file.exists else {}


def backed_up(host: Host) -> dict[str, Any]:
    """The records of the first backup, once it is at every repository host."""
    stores = settings(host)["repository_hosts"]

    def look() -> dict[str, Any]:
        known = recorded(host)
        return known if all("succeeded" in known.get(store, {}) for store in stores) else {}

    return until("a backup at every repository host", look, 180)


def back_up(host: Host) -> dict[str, Any]:
    """A backup now."""
    host.check_output("systemctl start grunnfjell-restic-backup")
    return recorded(host)


def repositories(store: Host) -> str:
    """The directory of the repositories on a repository host."""
    return store.check_output("getent passwd grunnfjell-restic | cut -d: -f6")


def restic(host: Host, store: str, arguments: str) -> Any:
    return host.run(f"{PROGRAM} --at {store} {arguments}")
