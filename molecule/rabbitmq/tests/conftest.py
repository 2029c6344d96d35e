"""Access to the broker: its tools on the host, and AMQP from here."""

from __future__ import annotations

import json
import secrets
import shlex
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from amqp_probe import Connection
from broker_tunnel import Dial, through_host


@pytest.fixture(scope="module")
def memory(inputs) -> int:
    """Bytes of memory that the host has."""
    return inputs["rabbitmq_memory_bytes"]


@pytest.fixture(scope="module")
def ctl(host):
    """The output of rabbitmqctl."""

    def run(*arguments: str, parse: bool = False) -> Any:
        command = shlex.join(["rabbitmqctl", "--quiet", *arguments, *(["--formatter", "json"] if parse else [])])
        result = host.run(f"{command} </dev/null")
        assert result.rc == 0, f"{command}\n{result.stdout}{result.stderr}"
        return json.loads(result.stdout) if parse else result.stdout.strip()

    return run


@pytest.fixture(scope="module")
def status(ctl) -> dict[str, Any]:
    return ctl("status", parse=True)


@pytest.fixture(scope="session")
def client(authority):
    """The TLS context of a client with a certificate of the fleet's authority."""
    return authority.context(authority.issue("client"))


@pytest.fixture(scope="module")
def place(inputs) -> tuple[str, int]:
    """Address and port of the broker's first listener."""
    address, _, port = inputs["rabbitmq_listeners_ssl"][0].rpartition(":")
    return address.strip("[]"), int(port)


@pytest.fixture(scope="module")
def dial(host, hostname, place) -> Iterator[Dial]:
    """Connects to the broker: from here, or through the broker's host if a firewall keeps this machine out."""
    if place[0].startswith("127."):
        pytest.skip(f"the broker listens on {place[0]} only, and its certificate is for another address")
    try:
        socket.create_connection(place, timeout=5).close()
    except OSError:
        with through_host(host.backend.ansible_runner.get_variables(hostname)) as dial_through:
            yield dial_through
    else:
        yield socket.create_connection


@pytest.fixture(scope="module")
def connect(place, client, dial):
    """Log in to the broker by AMQP over TLS."""
    return lambda user, password, vhost: Connection(*place, user, password, vhost, client, dial=dial)


@pytest.fixture(scope="module")
def application(inputs) -> dict[str, str]:
    """Login of the first user with permissions in a virtual host."""
    for user in inputs["rabbitmq_users"]:
        for permission in user.get("permissions", []):
            password = inputs["rabbitmq_user_passwords"][user["name"]]
            return {"user": user["name"], "password": password, "vhost": permission["vhost"]}
    pytest.skip("the inventory declares no user with permissions")


@pytest.fixture
def queue() -> str:
    """A unique name, because the broker's files keep the names of deleted queues."""
    return f"promise-{secrets.token_hex(4)}"


@pytest.fixture
def session(connect, application, queue):
    """A connection of the application, and a quorum queue for one test."""
    with connect(**application) as connection:
        connection.declare(queue, **{"x-queue-type": "quorum"})
    with connect(**application) as connection:
        yield connection
    with connect(**application) as connection:
        connection.delete(queue)
