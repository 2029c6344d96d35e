"""The virtual address as its clients and its hosts see it."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deadline import until

PORT = 8443
# What role keepalived promises: a server or a host that fails is replaced within this time.
MOVED_WITHIN_S = 10


def held(host) -> set[str]:
    """The addresses without a network, as keepalived adds them, that the host has now."""
    links = json.loads(host.check_output("ip -json address show"))
    addresses = [entry for link in links for entry in link["addr_info"]]
    return {entry["local"] for entry in addresses if entry["prefixlen"] in (32, 128) and entry["local"] != "::1"}


def holders(members: Mapping[str, Any], address: str) -> list[str]:
    return [name for name, member in members.items() if address in held(member)]


def state(host, address: str) -> str:
    """The last state that keepalived has logged for the address: MASTER, BACKUP or FAULT."""
    lines = host.run(f"journalctl --no-pager -o cat -u keepalived -g '^.{address}. Entering [A-Z]+ STATE' -n 1").stdout.split()
    return lines[-2] if lines else ""


@dataclass
class Client:
    """A client on this machine, which trusts the fleet's authority and connects to the virtual address."""

    address: str
    tls: ssl.SSLContext

    def get(self, path: str = "/") -> tuple[int, list[str]]:
        """Status, and the words of the answer: the server's host and the client's address as it saw it."""
        connection = http.client.HTTPSConnection(self.address, PORT, timeout=1, context=self.tls)
        try:
            connection.request("GET", path, headers={"Host": "jobs.example.org"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode().split()
        finally:
            connection.close()

    def server(self) -> str:
        """The host that answers now; empty if none does."""
        try:
            return self.get()[1][0]
        except (OSError, http.client.HTTPException):
            return ""

    def wait_for_another(self, former: str) -> str:
        return until(f"a host other than {former} answers", lambda: {self.server()} - {former, ""}, MOVED_WITHIN_S).pop()


def settle(members: Mapping[str, Any], address: str) -> tuple[str, str]:
    """Wait until one host has the address and the other one is ready to take it over; return both names."""

    def roles() -> tuple[str, str] | None:
        states = {state(member, address): name for name, member in members.items()}
        having = holders(members, address)
        ready = set(states) == {"MASTER", "BACKUP"} and having == [states["MASTER"]]
        return (states["MASTER"], states["BACKUP"]) if ready else None

    return until("one host has the address and the other is ready", roles)
