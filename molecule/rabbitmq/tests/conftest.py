"""How the promises of role rabbitmq are asked: the inventory says what is wanted, the broker what is so."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from amqp_probe import Connection, Refused


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
def connect(place, client):
    """Log in to the broker from here, by AMQP over TLS.

    Skips where this machine has no way to it: a live fleet's private network need not reach the administrator's desk, and
    whether the broker serves its listeners is asked of the broker itself. The lab reaches every host, so none is skipped there.
    """
    address, port = place
    if address.startswith("127."):
        pytest.skip(f"the broker listens on {address} only, which is not reached from here")

    def login(user: str, password: str, vhost: str) -> Connection:
        return Connection(address, port, user, password, vhost, client)

    try:
        login("nobody", "wrong", "/")
    except Refused:
        pass
    except OSError as error:
        pytest.skip(f"{address}:{port} is not reached from here: {error}")
    return login


@pytest.fixture(scope="module")
def application(inputs) -> dict[str, str]:
    """The first user that the inventory grants a virtual host, as arguments of a login."""
    for user in inputs["rabbitmq_users"]:
        for permission in user.get("permissions", []):
            password = inputs["rabbitmq_user_passwords"][user["name"]]
            return {"user": user["name"], "password": password, "vhost": permission["vhost"]}
    # A broker without an application is a valid inventory, and has nobody to log in as.
    pytest.skip("the inventory declares no user with permissions")
