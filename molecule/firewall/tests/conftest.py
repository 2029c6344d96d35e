"""Listeners on every host and on this machine."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from reachability import PORTS
from testinfra.host import Host

LISTENER = "grunnfjell-test-listener"
LISTEN = """
import socket, time
servers = [socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in {ports}]
time.sleep(1800)  # the test stops it; if the test dies, it ends within half an hour
"""


@pytest.fixture(scope="module")
def listeners(fleet) -> Iterator[dict[str, Host]]:
    """Every host of the fleet, listening on every port of the test, for IPv4 and IPv6."""
    script = shlex.quote(LISTEN.format(ports=PORTS))
    for host in fleet.values():
        host.run(f"systemctl stop {LISTENER}")
        host.check_output(f"systemd-run --quiet --collect --unit={LISTENER} /usr/bin/python3 -c {script}")
    for host in fleet.values():
        listening = f"ss -Hlnt sport = :{PORTS[-1]} | grep -q ."
        host.check_output(f"for i in $(seq 100); do {listening} && exit 0; sleep 0.1; done; exit 1")
    yield fleet
    for host in fleet.values():
        host.run(f"systemctl stop {LISTENER}")


@pytest.fixture
def outside() -> Iterator[None]:
    """This machine, listening on every port of the test."""
    with ExitStack() as stack:
        for port in PORTS:
            stack.enter_context(socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True))
        yield


@pytest.fixture
def controller(host) -> str:
    """This machine's address, as the host sees it."""
    return host.check_output("echo $SSH_CONNECTION").split()[0]
