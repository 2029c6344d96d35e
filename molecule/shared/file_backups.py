"""What a host's file backups hold, asked of restic and of the repository host's REST server."""

from __future__ import annotations

import json
import shlex
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


def rest(host: Host, store: str, path: str, *, method: str = "GET", login: str = "", identity: str = "restic") -> int:
    """The status of a request at a repository host, as an intruder with root on the host would send it; 0 if TLS refuses it."""
    config = settings(host)
    login = login or f"{config['repository']}:{config['login']}"
    pki = f"/etc/grunnfjell/pki/{identity}"
    shown = f"--cert {pki}/certificate.pem --key {pki}/key.pem" if identity else ""
    command = (
        f"curl --silent --output /dev/null --write-out '%{{http_code}}' --path-as-is --request {method} "
        f"--cacert /etc/grunnfjell/pki/authorities.pem {shown} --user {shlex.quote(login)} "
        f"{shlex.quote('https://' + config['repository_hosts'][store] + path)}"
    )
    return int(host.run(command.replace("%", "%%")).stdout or 0)
