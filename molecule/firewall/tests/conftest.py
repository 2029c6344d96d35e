"""Listeners on every host and on this machine."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import testinfra
from reachability import PORTS

LISTENER = "grunnfjell-test-listener"
LISTEN = """
import socket, time
each = [socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in {ports}]
time.sleep(1800)  # the test stops it; one that died leaves it for half an hour at most
"""


@pytest.fixture(scope="module")
def name(host) -> str:
    return host.backend.get_hostname()


@pytest.fixture(scope="module")
def listeners(fleet_inputs, request) -> Iterator[dict[str, Any]]:
    """Every host of the fleet, listening at every port of the test, for IPv4 and IPv6."""
    inventory = request.config.option.ansible_inventory
    hosts = {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in fleet_inputs}
    script = shlex.quote(LISTEN.format(ports=PORTS))
    for each in hosts.values():
        each.run(f"systemctl stop {LISTENER}")
        each.check_output(f"systemd-run --quiet --collect --unit={LISTENER} /usr/bin/python3 -c {script}")
    for each in hosts.values():
        waits = f"ss -Hlnt sport = :{PORTS[-1]} | grep -q ."
        each.check_output(f"for i in $(seq 100); do {waits} && exit 0; sleep 0.1; done; exit 1")
    yield hosts
    for each in hosts.values():
        each.run(f"systemctl stop {LISTENER}")


@pytest.fixture
def outside() -> Iterator[None]:
    """This machine, listening at every port of the test."""
    with ExitStack() as stack:
        for port in PORTS:
            stack.enter_context(socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True))
        yield


@pytest.fixture
def controller(host) -> str:
    """This machine's address, as the host sees it."""
    return host.check_output("echo $SSH_CONNECTION").split()[0]
