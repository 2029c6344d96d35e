"""A tunnel to the broker where a firewall admits this machine only by SSH: a program on the broker's host copies bytes.

The TLS handshake and the login happen here, so no password is in a command line of the host.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from authority import REPOSITORY

Dial = Callable[..., socket.socket]

# Reports first whether it connected (+), was refused (-) or got no answer (?).
RELAY = """
import os, socket, sys, threading
try:
    far = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
except OSError as error:
    os.write(1, b"-" if isinstance(error, ConnectionRefusedError) else b"?")
    sys.exit(1)
far.settimeout(None)
os.write(1, b"+")
def out():
    while piece := os.read(0, 65536):
        far.sendall(piece)
    far.shutdown(socket.SHUT_WR)
threading.Thread(target=out, daemon=True).start()
try:
    while piece := far.recv(65536):
        os.write(1, piece)
finally:
    os._exit(0)
"""


@contextmanager
def through_host(variables: dict[str, Any]) -> Iterator[Dial]:
    """Like `socket.create_connection`, from the host that Ansible reaches with these variables."""
    # ssh leaves its standard error non-blocking, and Ansible refuses to run with one: give ssh a file.
    with tempfile.TemporaryDirectory() as home, Path(home, "errors").open("w") as errors:
        ssh = ["ssh", "-l", variables.get("ansible_user", "root"), "-p", str(variables.get("ansible_port", 22))]
        if key := variables.get("ansible_ssh_private_key_file"):
            ssh += ["-i", key]
        ssh += [*shlex.split(variables.get("ansible_ssh_common_args", "")), "-o", "BatchMode=yes", "-S", f"{home}/control"]
        ssh.append(variables["ansible_host"])
        relays: list[subprocess.Popen] = []

        def ssh_errors() -> str:
            return Path(errors.name).read_text() or "no answer"

        def dial(place: tuple[str, int], timeout: float = 10) -> socket.socket:
            near, far = socket.socketpair()
            command = shlex.join(["python3", "-c", RELAY, place[0], str(place[1])])
            relays.append(subprocess.Popen([*ssh, command], cwd=REPOSITORY, stdin=far, stdout=far, stderr=errors))
            far.close()
            near.settimeout(timeout + 10)
            first = near.recv(1)
            near.settimeout(timeout)
            if first != b"+":
                near.close()
                raise (
                    ConnectionRefusedError(f"{place} refuses")
                    if first == b"-"
                    else OSError(f"no connection to {place}: {ssh_errors()}")
                )
            return near

        # All relays share one SSH login.
        master = subprocess.Popen([*ssh[:-1], "-M", "-N", ssh[-1]], cwd=REPOSITORY, stdin=subprocess.DEVNULL, stderr=errors)
        try:
            deadline = time.monotonic() + 60
            while not Path(home, "control").exists():
                assert master.poll() is None and time.monotonic() < deadline, ssh_errors()
                time.sleep(0.1)  # between two looks
            yield dial
        finally:
            for process in [*relays, master]:
                process.kill()
                process.wait()
