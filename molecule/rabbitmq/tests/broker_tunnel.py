"""A way to the broker where a firewall lets this machine in by SSH alone: from its own host, through what carries bytes.

No password is in a command line of the host, and the handshake is done here.
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

# Says first whether it came through, since only here an answer is told from a refusal.
CARRY = """
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
def from_its_host(variables: dict[str, Any]) -> Iterator[Dial]:
    """What dials as `socket.create_connection` does, from the host that Ansible reaches by these variables."""
    # ssh leaves the standard error that it is given non-blocking, and Ansible would run no more with it: it has one of its own.
    with tempfile.TemporaryDirectory() as home, Path(home, "said").open("w") as said:
        ssh = ["ssh", "-l", variables.get("ansible_user", "root"), "-p", str(variables.get("ansible_port", 22))]
        if key := variables.get("ansible_ssh_private_key_file"):
            ssh += ["-i", key]
        ssh += [*shlex.split(variables.get("ansible_ssh_common_args", "")), "-o", "BatchMode=yes", "-S", f"{home}/way"]
        ssh.append(variables["ansible_host"])
        carriers: list[subprocess.Popen] = []

        def told() -> str:
            return Path(said.name).read_text() or "no answer"

        def dial(place: tuple[str, int], timeout: float = 10) -> socket.socket:
            near, far = socket.socketpair()
            command = shlex.join(["python3", "-c", CARRY, place[0], str(place[1])])
            carriers.append(subprocess.Popen([*ssh, command], cwd=REPOSITORY, stdin=far, stdout=far, stderr=said))
            far.close()
            near.settimeout(timeout + 10)
            first = near.recv(1)
            near.settimeout(timeout)
            if first != b"+":
                near.close()
                raise ConnectionRefusedError(f"{place} refuses") if first == b"-" else OSError(f"no way to {place}: {told()}")
            return near

        # One login carries all of them.
        master = subprocess.Popen([*ssh[:-1], "-M", "-N", ssh[-1]], cwd=REPOSITORY, stdin=subprocess.DEVNULL, stderr=said)
        try:
            deadline = time.monotonic() + 60
            while not Path(home, "way").exists():
                assert master.poll() is None and time.monotonic() < deadline, told()
                time.sleep(0.1)  # between two looks
            yield dial
        finally:
            for process in [*carriers, master]:
                process.kill()
                process.wait()
