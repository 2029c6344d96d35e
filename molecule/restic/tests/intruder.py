"""What root on a host with files can ask of a repository host, with everything that the host knows."""

from __future__ import annotations

import shlex
from pathlib import Path

from file_backups import settings
from testinfra.host import Host

PROGRAM = (Path(__file__).parent / "rest_request.py").read_text(encoding="utf-8")


def rest(host: Host, store: str, path: str, *, method: str = "GET", login: str = "", certificate: bool = True) -> int:
    """The status of a request; 0 if TLS refuses the connection."""
    config = settings(host)
    url = f"https://{config['repository_hosts'][store]}{path}"
    files = [f"/etc/grunnfjell/pki/restic/{name}.pem" for name in ("certificate", "key")] if certificate else []
    arguments = [method, url, login or f"{config['repository']}:{config['login']}", "/etc/grunnfjell/pki/authorities.pem", *files]
    return int(host.check_output("python3 -c " + shlex.join([PROGRAM, *arguments])))
