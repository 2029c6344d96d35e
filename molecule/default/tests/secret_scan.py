"""Runs on a host, as root: where do the values that come in on standard input stand, and who else could read them there?

Prints JSON: {"command lines": [...], "environments": [...], "logs": [...], "files": [...], "kept": [...]}. A finding names a
place and never a value. C(kept) are the files that hold one and that nobody reads but who must: without any, the scan is blind.
"""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
import tempfile

# Where programs, packages and services put files. /usr is Debian's own, and the same on every host.
PLACES = ("/etc", "/opt", "/var/lib", "/var/tmp", "/var/cache", "/var/spool", "/run", "/tmp", "/root", "/home", "/srv")
LOGS = "/var/log"


def processes(name: str) -> dict[str, bytes]:
    """Every process's file of that name, with the process's own name."""
    found = {}
    for number in filter(str.isdigit, os.listdir("/proc")):
        if int(number) == os.getpid():
            continue
        try:
            with open(f"/proc/{number}/comm", encoding="utf-8") as comm, open(f"/proc/{number}/{name}", "rb") as file:
                found[f"{comm.read().strip()} ({number})"] = file.read()
        except OSError:
            continue  # it has ended
    return found


def holds(text: bytes, values: list[bytes]) -> bool:
    return any(value in text for value in values)


def reachable(path: str) -> bool:
    """Whether an account without any right of its own could open it."""
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
    there = [place for place in places if os.path.isdir(place)]
    search = ["grep", "-rlaFs", "-D", "skip", "-f", patterns, "--", *there]
    found = subprocess.run(search, capture_output=True, text=True, check=False).stdout.splitlines()
    return [path for path in found if path != patterns]


def compressed_logs_with(values: list[bytes]) -> list[str]:
    paths = [os.path.join(home, name) for home, _, names in os.walk(LOGS) for name in names if name.endswith(".gz")]
    found = []
    for path in paths:
        with gzip.open(path) as file:
            if holds(file.read(), values):
                found.append(path)
    return found


def main() -> None:
    wanted = json.load(sys.stdin)
    values = [value.encode() for value in wanted]
    # In memory, for root alone: an argument would be what this looks for.
    handle, patterns = tempfile.mkstemp(dir="/dev/shm")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(wanted) + "\n")
        inside = files_with(patterns, *PLACES)
        logs = files_with(patterns, LOGS) + compressed_logs_with(values)
    finally:
        os.unlink(patterns)
    journal = subprocess.run(["journalctl", "--no-pager", "--quiet", "--output=export"], capture_output=True, check=False).stdout
    environments = {
        who: text
        for who, text in processes("environ").items()
        if os.path.exists(path := f"/proc/{who.rpartition('(')[2][:-1]}/environ") and os.stat(path).st_mode & 0o044
    }
    told = {
        "command lines": [who for who, text in processes("cmdline").items() if holds(text, values)],
        "environments": [who for who, text in environments.items() if holds(text, values)],
        "logs": logs + ["the journal"] * holds(journal, values),
        "files": [path for path in inside if reachable(path)],
        "kept": [path for path in inside if not reachable(path)],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
