"""Runs on a host as root: searches for the values on standard input where other accounts could read them.

Prints JSON: {"command lines": [...], "environments": [...], "logs": [...], "files": [...], "protected": [...]}. A finding names a
place, never a value. `protected` files hold a value, but only its owners can read them: without any, the scan is blind.
"""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
import tempfile

# Where programs, packages and services put files. /usr is Debian's, and the same on every host.
PLACES = ("/etc", "/opt", "/var/lib", "/var/tmp", "/var/cache", "/var/spool", "/run", "/tmp", "/root", "/home", "/srv")
LOGS = "/var/log"


def processes(name: str) -> dict[str, bytes]:
    """Process name and pid to the content of this file in /proc."""
    contents = {}
    for number in filter(str.isdigit, os.listdir("/proc")):
        if int(number) == os.getpid():
            continue
        try:
            with open(f"/proc/{number}/comm", encoding="utf-8") as comm, open(f"/proc/{number}/{name}", "rb") as file:
                contents[f"{comm.read().strip()} ({number})"] = file.read()
        except OSError:
            continue  # it has ended
    return contents


def holds(text: bytes, values: list[bytes]) -> bool:
    return any(value in text for value in values)


def reachable(path: str) -> bool:
    """Whether an unprivileged account could open it."""
    try:
        if not os.stat(path).st_mode & stat.S_IROTH:
            return False
        while (path := os.path.dirname(path)) != "/":
            if not os.stat(path).st_mode & stat.S_IXOTH:
                return False
    except OSError:
        return False
    return True


def files_with(patterns: str, *places: str) -> list[str]:
    directories = [place for place in places if os.path.isdir(place)]
    search = ["grep", "-rlaFs", "-D", "skip", "-f", patterns, "--", *directories]
    paths = subprocess.run(search, capture_output=True, text=True, check=False).stdout.splitlines()
    return [path for path in paths if path != patterns]


def compressed_logs_with(values: list[bytes]) -> list[str]:
    paths = [os.path.join(home, name) for home, _, names in os.walk(LOGS) for name in names if name.endswith(".gz")]
    matches = []
    for path in paths:
        with gzip.open(path) as file:
            if holds(file.read(), values):
                matches.append(path)
    return matches


def main() -> None:
    secrets = json.load(sys.stdin)
    values = [value.encode() for value in secrets]
    # In memory, readable only by root: as an argument it would find itself.
    handle, patterns = tempfile.mkstemp(dir="/dev/shm")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(secrets) + "\n")
        files = files_with(patterns, *PLACES)
        logs = files_with(patterns, LOGS) + compressed_logs_with(values)
    finally:
        os.unlink(patterns)
    journal = subprocess.run(["journalctl", "--no-pager", "--quiet", "--output=export"], capture_output=True, check=False).stdout
    environments = {
        process: text
        for process, text in processes("environ").items()
        if os.path.exists(path := f"/proc/{process.rpartition('(')[2][:-1]}/environ") and os.stat(path).st_mode & 0o044
    }
    report = {
        "command lines": [process for process, text in processes("cmdline").items() if holds(text, values)],
        "environments": [process for process, text in environments.items() if holds(text, values)],
        "logs": logs + ["the journal"] * holds(journal, values),
        "files": [path for path in files if reachable(path)],
        "protected": [path for path in files if not reachable(path)],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
