"""How the promises of role rabbitmq are asked: the inventory says what is wanted, the broker what is so."""

from __future__ import annotations

import json
import secrets
import shlex
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from amqp_probe import Connection
from broker_tunnel import Dial, from_its_host


@pytest.fixture(scope="module")
def memory(inputs) -> int:
    """Bytes of memory that the host really has."""
    return inputs["rabbitmq_memory_bytes"]


@pytest.fixture(scope="module")
def ctl(host):
    """What rabbitmqctl answers."""

    def run(*arguments: str, parse: bool = False) -> Any:
        command = shlex.join(["rabbitmqctl", "--quiet", *arguments, *(["--formatter", "json"] if parse else [])])
        done = host.run(f"{command} </dev/null")
        assert done.rc == 0, f"{command}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout) if parse else done.stdout.strip()

    return run


@pytest.fixture(scope="module")
def status(ctl) -> dict[str, Any]:
    return ctl("status", parse=True)


@pytest.fixture(scope="session")
def client(authority):
    """Somebody whom the fleet's authority vouches for."""
    return authority.context(authority.issue("client"))


@pytest.fixture(scope="module")
def place(inputs) -> tuple[str, int]:
    """Where the broker takes clients: address and port."""
    address, _, port = inputs["rabbitmq_listeners_ssl"][0].rpartition(":")
    return address.strip("[]"), int(port)


@pytest.fixture(scope="module")
def dial(host, place) -> Iterator[Dial]:
    """A connection to the broker, from here; where this machine has no way to it, as with a firewall, from the broker's host."""
    if place[0].startswith("127."):
        pytest.skip(f"the broker listens on {place[0]} only, and its certificate is for another address")
    try:
        socket.create_connection(place, timeout=5).close()
    except OSError:
        with from_its_host(host.backend.ansible_runner.get_variables(host.backend.get_hostname())) as dials:
            yield dials
    else:
        yield socket.create_connection


@pytest.fixture(scope="module")
def connect(place, client, dial):
    """Log in to the broker by AMQP over TLS."""
    return lambda user, password, vhost: Connection(*place, user, password, vhost, client, dial=dial)


@pytest.fixture(scope="module")
def application(inputs) -> dict[str, str]:
    """The first user that the inventory grants a virtual host, as arguments of a login."""
    for user in inputs["rabbitmq_users"]:
        for permission in user.get("permissions", []):
            password = inputs["rabbitmq_user_passwords"][user["name"]]
            return {"user": user["name"], "password": password, "vhost": permission["vhost"]}
    # A broker without an application is a valid inventory, and has nobody to log in as.
    pytest.skip("the inventory declares no user with permissions")


@pytest.fixture
def queue() -> str:
    """A name that no other test or run has: the broker's files remember deleted ones."""
    return f"promise-{secrets.token_hex(4)}"


@pytest.fixture
def session(connect, application, queue):
    """A connection of the application, and a quorum queue of its own that is gone afterwards."""
    with connect(**application) as connection:
        connection.declare(queue, **{"x-queue-type": "quorum"})
    with connect(**application) as connection:
        yield connection
    with connect(**application) as connection:
        connection.delete(queue)
