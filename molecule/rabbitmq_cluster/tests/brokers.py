"""The brokers of a scenario with one cluster per release, as a test needs them."""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from amqp_probe import Connection
from deadline import until
from testinfra.host import Host

CONTAINER = "grunnfjell-{}"
QUORUM = {"x-queue-type": "quorum"}


@dataclass(frozen=True)
class Broker:
    """One member: its host, its node, and where clients connect."""

    name: str
    node: str
    host: Host
    place: tuple[str, int]

    def tool(self, *arguments: str, tool: str = "rabbitmqctl", parse: bool = False) -> Any:
        """The output of one of RabbitMQ's tools on this host."""
        command = shlex.join([tool, "--quiet", *arguments, *(["--formatter", "json"] if parse else [])])
        done = self.host.run(f"timeout 120 {command} </dev/null")
        assert done.rc == 0, f"{self.name}: {command}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout) if parse else done.stdout.strip()

    def view(self) -> dict[str, Any]:
        """What this node believes, once it answers: a broker that starts, or whose peer was just lost, may not at once."""

        def look() -> dict[str, Any] | None:
            try:
                return self._view()
            except AssertionError:
                return None

        return until(f"an answer of {self.name}", look, 120)

    def _view(self) -> dict[str, Any]:
        """Members and running members, and every quorum queue's members and leader."""
        status = self.tool("cluster_status", parse=True)
        vhosts = [entry["name"] for entry in self.tool("list_vhosts", "name", parse=True)]
        queues = [
            {**row, "vhost": vhost}
            for vhost in vhosts
            for row in self.tool("list_queues", "-p", vhost, "name", "type", "leader", "members", parse=True)
            if row["type"] == "quorum"
        ]
        return {"members": sorted(status["disk_nodes"]), "running": sorted(status["running_nodes"]), "queues": queues}

    def kill(self) -> None:
        """The broker dies at once. systemd would start it again after two seconds."""
        self.host.check_output("systemctl kill --signal=SIGKILL rabbitmq-server")

    def burn(self) -> None:
        """The machine is gone for ever, with its disk."""
        subprocess.run(["podman", "rm", "--force", "--time", "0", CONTAINER.format(self.name)], check=True, capture_output=True)


@dataclass
class Publisher:
    """Publishes to a queue with confirms until it is stopped; goes to another broker when one fails.

    accepted: bodies that a broker confirmed.  gap: the longest time between two confirms, in seconds.
    """

    connect: Callable[[tuple[str, int]], Connection]
    places: list[tuple[str, int]]
    queue: str
    accepted: list[str] = field(default_factory=list)
    errors: int = 0
    gap: float = 0

    def __enter__(self) -> Publisher:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._last = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        number, turn, connection = 0, 0, None
        while not self._stop.is_set():
            try:
                connection = connection or self.connect(self.places[turn % len(self.places)])
                if connection.publish(self.queue, f"job {number}") == "ack":
                    self.accepted.append(f"job {number}")
                    now = time.monotonic()
                    self.gap, self._last = max(self.gap, now - self._last), now
                number += 1
            except Exception:  # a connection that breaks in the middle of a frame fails in many ways
                # Neither confirmed nor known to be lost: the job may arrive, and counts as not accepted.
                connection, turn, self.errors, number = None, turn + 1, self.errors + 1, number + 1


def drain(connection: Connection, queue: str) -> list[str]:
    """Every message of the queue: those before one that is published now."""
    assert connection.publish(queue, "the last one") == "ack"
    return list(itertools.takewhile(lambda body: body != "the last one", connection.consume(queue)))


def check_none_lost(publisher: Publisher, connect, broker: Broker) -> None:
    """Every confirmed job is in the queue; prints what it cost. Deletes the queue."""
    with connect(broker.place) as connection:
        bodies = set(drain(connection, publisher.queue))
        connection.delete(publisher.queue)
    print(f"{publisher.queue}: {len(publisher.accepted)} accepted, {publisher.errors} errors, longest gap {publisher.gap:.1f} s")
    assert publisher.accepted and not set(publisher.accepted) - bodies
