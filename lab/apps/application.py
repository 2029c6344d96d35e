"""What the test knows of an application: how a client gives it work, and where its own database says that the work is done."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Protocol

from lab.containers import PREFIX
from lab.demo import trust
from lab.demo.fleet import Fleet, Host
from lab.drill.hosts import container, shell
from lab.machine import Refusal, podman

TIMEOUT_S = 60
# Until what was accepted must be done: by itself, and after the replay of dead letters.
DONE_S = 300


class Application(Protocol):
    """An application of the inventory, named like its group."""

    name: str

    def prepare(self) -> None:
        """Make what a client needs: an account, a shop."""

    def send(self) -> str | None:
        """Give it one piece of work; its key, or None if the application did not accept it."""

    def done(self) -> set[str]:
        """The keys whose work is done, by the application's database."""

    def prove(self) -> list[str]:
        """Sentences about what the accepted work left behind, beyond the database; a refusal if it is not there."""


@dataclass
class Client:
    """An HTTPS client of an application's interface in JSON."""

    base: str
    headers: dict[str, str] = field(default_factory=dict)

    def open(self, method: str, path: str, body: bytes | None, content_type: str) -> tuple[int, bytes]:
        url = path if path.startswith("https://") else self.base + path
        headers = {"Content-Type": content_type, "Accept": "application/json", **self.headers}
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=trust.context()) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return 0, b""

    def attempt(self, method: str, path: str, value: Any = None) -> tuple[int, Any]:
        """Status, 0 for none, and the answer's value, None if it is not JSON."""
        status, body = self.open(method, path, None if value is None else json.dumps(value).encode(), "application/json")
        try:
            return status, json.loads(body)
        except ValueError:
            return status, None

    def ask(self, method: str, path: str, value: Any = None) -> Any:
        status, answer = self.attempt(method, path, value)
        if status >= 300 or not status:
            raise Refusal(f"{method} {self.base}{path} was answered {status or 'by nobody'}: {answer}")
        return answer


def in_environment(host: Host, name: str, program: str) -> str:
    """Run a Python program as the application's account, in the environment of its current release."""
    argv = ["runuser", "-u", "www-data", "--", f"/opt/{name}/current/run", "python", "-"]
    done = podman("exec", "--interactive", container(host), *argv, input=program, check=False)
    if done.returncode:
        raise Refusal(f"{host.name}: a program of {name} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def outside(script: str) -> str:
    """Run a script on the host of lab/apps/outside.yml."""
    return podman("exec", PREFIX + "apps-outside", "sh", "-euc", script).stdout


def sql(fleet: Fleet, database: str, query: str) -> list[list[str]]:
    """Rows of a query as PostgreSQL's own account, through no PgBouncer."""
    out = shell(fleet.group("postgresql")[0], f"runuser -u postgres -- psql -XAtF '\t' {database}", stdin=query)
    return [line.split("\t") for line in out.splitlines()]
