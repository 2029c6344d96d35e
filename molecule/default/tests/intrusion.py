"""Attempts of an intruder, and what they need on the fleet."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from authority import Authority

from lab.demo.fleet import Host
from lab.exposure.intruders import Answer
from lab.exposure.points import Point
from lab.machine import REPOSITORY, Refusal

ATTEMPTS = str(REPOSITORY / "molecule/shared/attempts.py")
PKI = "/etc/grunnfjell/pki"
OTHER = "intruder_other"  # the virtual host and the database of another application


def attempt(point: Point, how: str, **arguments: object) -> Answer:
    """An attempt of molecule/shared/attempts.py from this point."""
    result = point.run([sys.executable, ATTEMPTS], stdin=json.dumps({"how": how} | arguments))
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    return Answer(answer["in"], answer["answer"])


def run_on(host: Host, command: str, stdin: str = "") -> Answer:
    """The output of a command on a host; a failure counts as refused."""
    try:
        return Answer(True, host.run(["sh", "-c", command], stdin=stdin).strip() or "no error")
    except Refusal as refusal:
        # The first line repeats the command.
        return Answer(False, " ".join(str(refusal).splitlines()[1:]).strip())


def tls_of(trusted: Authority, identity: tuple[str, str]) -> dict[str, str]:
    return {"authorities": trusted.bundle, "certificate": identity[0], "key": identity[1]}


@contextmanager
def listener(point: Point, port: int) -> Iterator[None]:
    """Accepts connections at every address of the point until the block ends."""
    command = point.there([sys.executable, ATTEMPTS, "listen", "0.0.0.0", str(port)])
    process = subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout.readline().strip() == "listening", process.stderr.read()
        yield
    finally:
        process.stdin.close()
        process.wait(timeout=30)


def superuser(database: Host, statement: str) -> None:
    database.run(["runuser", "-u", "postgres", "--", "psql", "-XqAt", "-d", "postgres", "-c", statement])


@contextmanager
def other_application(broker: Host, database: Host) -> Iterator[None]:
    """A virtual host and a database of another application, until the block ends."""
    broker.run(["rabbitmqctl", "-q", "add_vhost", OTHER])
    try:
        superuser(database, f"CREATE DATABASE {OTHER}")
        yield
    finally:
        broker.run(["rabbitmqctl", "-q", "delete_vhost", OTHER])
        superuser(database, f"DROP DATABASE IF EXISTS {OTHER}")


@contextmanager
def user_without_permissions(broker: Host, vhost: str) -> Iterator[dict[str, str]]:
    user, password, salt = "intruder", secrets.token_hex(16), secrets.token_bytes(4)
    digest = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    nothing = {"vhost": vhost, "user": user, "configure": "", "write": "", "read": ""}
    definitions = {"users": [{"name": user, "password_hash": digest, "tags": ""}], "permissions": [nothing]}
    # In a file, because rabbitmqctl add_user would have the password in its command line.
    file = "/run/grunnfjell-intruder.json"
    broker.run(["install", "-g", "rabbitmq", "-m", "0640", "/dev/stdin", file], stdin=json.dumps(definitions))
    try:
        broker.run(["rabbitmqctl", "-q", "import_definitions", file])
        yield {"user": user, "password": password}
    finally:
        broker.run(["rabbitmqctl", "-q", "delete_user", user])
        broker.run(["rm", "-f", file])
