"""The arithmetic and the rules of role restic."""

from __future__ import annotations

import base64
import hashlib
import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..fleet.model import Host, bracketed
from ..fleet.units import MIB

# Part of a URL, a path and a file of logins.
NAME = re.compile(r"[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._-]{0,62}")
# Part of a URL; make secrets writes 64 hexadecimal digits.
LOGIN = re.compile(r"[A-Za-z0-9_-]{16,}")
# The unit of the backup has another /tmp and no homes.
HIDDEN = ("/home", "/root", "/run", "/tmp", "/var/tmp", "/proc", "/sys", "/dev")
# Peaks of the resident set on Debian 13: 118 MiB with 20,000 files and 200 MB, 54 MiB..
BACKUP = 192 * MIB
SERVER = 96 * MIB


def restic_endpoints(hosts: Mapping[str, str], port: int) -> dict[str, str]:
    """Repository host to its address and port.

    >>> restic_endpoints({"backup1": "fd00::9"}, 8433)
    {'backup1': '[fd00::9]:8433'}
    """
    return {name: f"{bracketed(address)}:{port}" for name, address in hosts.items()}


def restic_htpasswd(names: list[str], logins: Mapping[str, str]) -> str:
    """Apache's file of logins, with a hash of each password.

    A hash without salt is enough for 256 random bits, which nobody guesses, and is the same in every run.

    >>> restic_htpasswd(["web1"], {"web1": "aaaa", "web2": "bbbb"})
    'web1:{SHA}cMiB1KJphN3OeV9vcYF8nPRIDnk=\\n'
    """
    digests = {name: hashlib.sha1(str(logins.get(name, "")).encode()).digest() for name in names}
    return "".join(f"{name}:{{SHA}}{base64.b64encode(digest).decode()}\n" for name, digest in digests.items())


def restic_calendar(hours: int) -> str:
    """OnCalendar of systemd.timer for a backup every so many hours.

    >>> restic_calendar(6), restic_calendar(24)
    ('*-*-* 00/6:15:00', '*-*-* 00:15:00')
    """
    # systemd refuses a step that reaches the next day.
    return f"*-*-* 00{f'/{hours}' if hours < 24 else ''}:15:00"


def restic_problems(inputs: Mapping[str, Any]) -> list[str]:
    """Faults of the role's inputs, as sentences; the argument specs refuse wrong types."""
    hosts, names = inputs.get("repository_hosts"), inputs.get("repositories")
    if not isinstance(hosts, dict) or not isinstance(names, list):
        return []
    if hosts and names:
        return [
            f"restic_repository_hosts is {', '.join(map(str, hosts))} and restic_repositories is {', '.join(map(str, names))}, "
            f"but a host either has files or keeps repositories: backups beside the files are lost with them. Take the host out "
            f"of one of the groups."
        ]
    if not hosts and not names:
        return [
            "restic_repository_hosts and restic_repositories are both empty, so nothing would be backed up. Set the first one on "
            "a host with files, to a host of the group of repository hosts, and the second one on a repository host."
        ]
    rules = (_paths, _schedule, _secrets) if hosts else (_repositories,)
    return [problem for rule in rules for problem in rule(inputs)]


def _paths(inputs: Mapping[str, Any]) -> Iterator[str]:
    paths = inputs.get("paths")
    if not isinstance(paths, list):
        return
    if not paths:
        yield "restic_paths is empty, so nothing would be backed up. Name directories, e.g. [/var/lib/newsroom]."
    for path in map(str, paths):
        if not path.startswith("/") or posixpath.normpath(path) != path or path == "/":
            yield (
                f"restic_paths names '{path}', which is not the absolute path of a directory or file below /, without '..' or a "
                f"slash at the end. Correct it."
            )
        elif any(path == hidden or path.startswith(f"{hidden}/") for hidden in HIDDEN):
            yield (
                f"restic_paths names '{path}', which the backup cannot see: {', '.join(HIDDEN)} are hidden from its unit. Keep "
                f"the files elsewhere, e.g. below /var/lib."
            )


def _schedule(inputs: Mapping[str, Any]) -> Iterator[str]:
    hours, jitter = inputs.get("backup_hours"), inputs.get("jitter")
    if isinstance(hours, int) and 0 < hours < 25 and 24 % hours:
        yield f"restic_backup_hours is {hours}, which does not divide a day. Use 1, 2, 3, 4, 6, 8, 12 or 24."
    elif isinstance(hours, int) and isinstance(jitter, int) and 0 < hours < 25 and jitter > hours * 1800:
        yield (
            f"restic_jitter is {jitter} s, but must be at most {hours * 1800}, half of restic_backup_hours, or `status` would "
            f"warn about backups that are only late. Lower it."
        )


def _secrets(inputs: Mapping[str, Any]) -> Iterator[str]:
    name = str(inputs.get("repository"))
    if not NAME.fullmatch(name):
        yield (
            f"restic_repository is '{name}', but may hold letters, digits, '.', '_' and '-' only, since it is part of a URL and "
            f"a path. Correct it."
        )
    for key, what in {"login": "its repository is refused to every other host", "password": "its backups are encrypted"}.items():
        if not inputs.get(key):
            yield (
                f"restic_{key} is empty, but {what}. Bind it to vault_restic_{key}s[inventory_hostname], and run `make secrets`."
            )
    if inputs.get("login") and not LOGIN.fullmatch(str(inputs["login"])):
        yield "restic_login is part of a URL, so it takes 16 or more letters, digits, '_' and '-'. Use the one of `make secrets`."


def _repositories(inputs: Mapping[str, Any]) -> Iterator[str]:
    names, logins = inputs["repositories"], inputs.get("logins")
    if not inputs.get("listen_address"):
        yield "restic_listen_address is empty, so no host could reach its repository. Set it to the private address."
    for name in map(str, names):
        if not NAME.fullmatch(name):
            yield f"restic_repositories names '{name}', but a name holds letters, digits, '.', '_' and '-' only. Correct it."
        elif isinstance(logins, dict) and not logins.get(name):
            yield (
                f"restic_repositories names {name}, but restic_logins has no login for it. Add it to vault_restic_logins in "
                f"secrets_wanted, and run `make secrets`."
            )


def repository_parts(host: Host) -> list[tuple[str, int]] | None:
    """What the repositories will hold for their retention, in bytes, at the measured sizes; None before the first backup.

    A period's repository goes once its last backup is older than the retention, and the one of the present period may be whole.
    """
    measured, days = host.measured.get("file_backups"), host.inputs.get("restic_retention_days")
    if not measured or not isinstance(days, int):
        return None
    parts = []
    for name, repository in measured["repositories"].items():
        period = repository["period_days"]
        kept = math.ceil(days / period) + 2
        size = repository["first_bytes"] + period * repository["bytes_per_day"]
        parts.append((f"{kept} repositories of {name}", kept * size))
    return parts or None


def memory_parts(host: Host) -> list[tuple[str, int]] | None:
    """restic's memory during a backup, or that of the repository host's server. It grows with the number of files."""
    if host.inputs.get("restic_repositories"):
        return [("rclone", SERVER)]
    return [("a backup of files", BACKUP)]
