"""The table of docs/your-application.md, and what the kit makes of a row's lines without a host.

The role's own expressions and templates give the files, and topology's checks the refusals.
"""

from __future__ import annotations

import ast
import atexit
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.contract import broken_specs, unknown_inputs
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import refusals
from fleets import APART, POOL, SUPPORTED, make_host
from fleets import ROLES as FLEET_ROLES
from test_contract import options

from lab.machine import REPOSITORY

PAGE = REPOSITORY / "docs/your-application.md"
HEAD = "| your application | what you write | what you get |"
EVERYWHERE = ""
CODE, BOLD = re.compile(r"`([^`]+)`"), re.compile(r"\*\*(.+?)\*\*")
FILE = re.compile(r"(host_vars/(?P<host>\w+)|[\w./]+)\.(yml|py)")

SITES = [{"name": "operations", "kind": "administrators", "addresses": ["198.51.100.0/24"], "country": "NO"}]
EVERY_HOST = {"topology_country": "NO", "topology_countries_allowed": ["NO"], "topology_sites": SITES}
# The roles that read the lines of a row.
OF_APPLICATION = ("application", "celery_worker", "producer")
ROLES = FLEET_ROLES | {"application": ("celery_workers", "producers")}
WORKERS, PRODUCERS = ("worker1", "worker2"), ("web1",)
OF_HOST = dict.fromkeys(WORKERS, ("application", "celery_worker")) | dict.fromkeys(PRODUCERS, ("application", "producer"))
# What the inventory has besides the lines of the row, as inventories/example.
GIVEN = """
application_name: shop
application_source: {directory: /srv/shop}
application_broker_hosts: [10.0.0.1]
application_broker_password: 0123456789abcdef
celery_worker_application: {name: shop, celery_app: "{{ application_celery_app }}", state: /var/lib/shop}
producer_application: {}
producer_bind: 10.0.0.4:8000
vault_redis_password: fedcba9876543210
"""


# --- The page ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """host: the only one that it is for; empty for all of the application."""

    text: str
    host: str = EVERYWHERE

    @property
    def input(self) -> str:
        """Name of the input that it sets; empty if it is Python code of the application."""
        match = re.match(r"([a-z]\w*): ", self.text)
        return match[1] if match else ""


@dataclass(frozen=True)
class Row:
    """kind: the code in the first column, which an application of this kind has."""

    name: str
    kind: tuple[str, ...]
    lines: tuple[Line, ...]

    def without(self, line: Line) -> Row:
        return replace(self, lines=tuple(other for other in self.lines if other != line))

    @property
    def code(self) -> str:
        return "\n".join(line.text for line in self.lines if not line.input)

    def inventory(self, host: str) -> str:
        return "\n".join(line.text for line in self.lines if line.input and line.host in (host, EVERYWHERE))


def rows(page: str) -> dict[str, Row]:
    """The rows by their bold words."""
    assert HEAD in page, f"docs/your-application.md has no table with the head {HEAD}"
    table = page.split(HEAD)[1].split("\n\n")[0].splitlines()[2:]
    parsed = [row_of(line) for line in table]
    assert len({row.name for row in parsed}) == len(parsed), "two rows of the table have the same bold words"
    return {row.name: row for row in parsed}


def row_of(text: str) -> Row:
    first, second, third = (cell.strip() for cell in text.strip().strip("|").split(" | "))
    name = BOLD.search(first)
    assert name and third, f"a row of the table has no bold words, or no third column: {text}"
    lines = tuple(lines_of(name[1], second))
    assert lines or second == "nothing", f"the row '{name[1]}' has no exact line in its second column, and not the word nothing"
    return Row(name[1], tuple(CODE.findall(first)), lines)


def lines_of(row: str, cell: str) -> Iterator[Line]:
    """The code of a cell. The name of a file says where the lines after it belong."""
    host = EVERYWHERE
    for text in CODE.findall(cell):
        if file := FILE.fullmatch(text):
            host = file["host"] or EVERYWHERE
            continue
        line = Line(text, host)
        assert line.input or is_statement(text), (
            f"the row '{row}' has {text}, which is neither `input: value` nor a line of Python"
        )
        assert not line.input or line.input in known_inputs(), (
            f"the row '{row}' has {line.input}, which is not an input of a role"
        )
        yield line


def is_statement(text: str) -> bool:
    """Whether it is code that does something: a name alone does not."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return False
    return bool(body) and not any(isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call) for node in body)


@cache
def inputs_of(role: str) -> dict[str, Any]:
    """The inputs in the role's contract."""
    return options(role)


@cache
def known_inputs() -> frozenset[str]:
    return frozenset(name for role in OF_APPLICATION for name in inputs_of(role))


def sites(page: str) -> list[dict[str, Any]]:
    """The sites of the page's first block, below what the kit does not bring."""
    return yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])["topology_sites"]


# --- The kit ----------------------------------------------------------------------------------------------------------------


@cache
def evaluator() -> subprocess.Popen[str]:
    argv = [sys.executable, Path(__file__).parent / "role_values.py", *OF_APPLICATION]
    process = subprocess.Popen(argv, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    return process


@cache
def answer(question: str) -> str:
    process = evaluator()
    process.stdin.write(f"{question}\n")
    process.stdin.flush()
    line = process.stdout.readline()
    assert line, "tests/role_values.py ended; its error is above"
    return line


class Inventory:
    """What the roles and the fleet's checks make of the lines of a row and of those that every inventory has.

    given: lines that another row is about.
    """

    def __init__(self, row: Row, given: str, more_sites: list[dict[str, Any]] | None = None) -> None:
        self.row, self.given, self.sites = row, given, [*SITES, *(more_sites or [])]

    def lines(self, host: str) -> list[str]:
        return [GIVEN, self.given, self.row.inventory(host)]

    def ask(self, host: str, inputs: list[str], values: dict[str, str]) -> dict[str, Any]:
        """The inputs that have a value, and the values of the expressions, on the host."""
        variables = {"application_connection": "producer" if host in PRODUCERS else "worker", "inventory_hostname": host}
        question = {"inventory": self.lines(host), "variables": variables, "inputs": inputs, "values": values}
        result = json.loads(answer(json.dumps(question)))
        assert "error" not in result, result["error"]
        return result

    def value(self, host: str, name: str) -> Any:
        return self.ask(host, [], {"value": f"{{{{ {name} }}}}"})["value"]

    def inputs(self, host: str) -> dict[str, Any]:
        """The inputs of its roles, as topology sees them."""
        return self.ask(host, sorted({name for role in OF_HOST[host] for name in inputs_of(role)} - {"application_current"}), {})

    def host(self, name: str) -> Host:
        inputs = self.inputs(name) | POOL | EVERY_HOST | {"topology_sites": self.sites}
        host = make_host(name, *OF_HOST[name], "pgbouncer", applications=("shop",), **inputs)
        return replace(host, promises=frozenset(self.value(name, "__application_promises")))

    def fleet(self) -> Fleet:
        hosts = [make_host("broker1", "rabbitmq", **EVERY_HOST), make_host("db1", "postgresql", **EVERY_HOST)]
        hosts[1].inputs.update(postgresql_max_connections=100, postgresql_superuser_reserved_connections=3)
        hosts += [self.host(name) for name in OF_HOST]
        groups = frozenset({"shop", *(group for groups in ROLES.values() for group in groups)})
        return Fleet({host.name: host for host in hosts}, ROLES, ("shop",), groups)

    def refusals(self) -> list[str]:
        """The sentences with which a run refuses the inventory: those of the roles' contracts, else those of the fleet."""
        sentences = []
        for host, own in OF_HOST.items():
            names = [name for text in self.lines(host) for name in yaml.safe_load(text) or {}]
            sentences += unknown_inputs(host, names, OF_APPLICATION, set(known_inputs()))
            for role in own:
                sentences += broken_specs(host, role, inputs_of(role), self.inputs(host))
        return sentences or refusals(self.fleet(), SUPPORTED, APART)

    def write_settings(self, host: str, folder: Path) -> dict[str, str]:
        """The role's settings for Celery, with a broker in memory; returns the environment of the programs."""
        template = REPOSITORY / "roles/application/templates/etc/application/grunnfjell_settings.py.j2"
        expressions = {"settings": template.read_text(encoding="utf-8"), "environment": "{{ __application_environment }}"}
        files = self.ask(host, [], expressions)
        (folder / "grunnfjell_settings.py").write_text(f"{files['settings']}broker_url = 'memory://'\n")
        return {name: str(value) for name, value in files["environment"].items()}
