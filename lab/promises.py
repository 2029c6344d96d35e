"""Print the kit's promises and which command checks them: `make promises`, `make promises ROLE=rabbitmq`.

A promise is a testinfra test: it checks a running service, and its name is the sentence. A test with several parameters is one
promise. Each wrong inventory that is refused is a promise too. Unit tests are not.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.ci.steps import VERIFIED
from lab.machine import REPOSITORY

# Scenarios that do not have a role's name.
TITLES = {"default": "The whole site", "cloud": "Cloud images", "kvm": "Virtual machines"}
# Scenarios with a make target, which also makes their hosts.
TARGETS = {"kvm": "`make test-kvm`", "cloud": "`make test-cloud`"}
# Words with another spelling in sentences.
SPELLING = {
    "celery": "Celery",
    "erlang": "Erlang",
    "pgbouncer": "PgBouncer",
    "postgresql": "PostgreSQL",
    "rabbitmq": "RabbitMQ",
    "scram": "SCRAM",
    "tls": "TLS",
    "www data": "www-data",
}


@dataclass(frozen=True)
class Promise:
    sentence: str
    file: Path
    asked: str


def sentence(name: str) -> str:
    """The name of a test as a sentence.

    >>> sentence("test_the_broker_s_data_survives_pgbouncer")
    "The broker's data survives PgBouncer."
    """
    words = name.removeprefix("test_").replace("_", " ").replace(" s ", "'s ")
    for word, spelling in SPELLING.items():
        words = re.sub(rf"\b{word}\b", spelling, words)
    return f"{words[0].upper()}{words[1:]}."


def markers(nodes: list[ast.expr]) -> set[str]:
    """The names of the pytest markers among some decorators, or in a module's pytestmark."""
    attributes = [node for root in nodes for node in ast.walk(root) if isinstance(node, ast.Attribute)]
    return {a.attr for a in attributes if isinstance(a.value, ast.Attribute) and a.value.attr == "mark"}


def targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    """The names that an assignment binds."""
    expressions = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [name.id for expression in expressions for name in ast.walk(expression) if isinstance(name, ast.Name)]


def promises_in(path: Path) -> Iterator[Promise]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    module_marks = [node.value for node in body if isinstance(node, ast.Assign) and "pytestmark" in targets(node)]
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marked = markers([*module_marks, *node.decorator_list])
            yield Promise(sentence(node.name), path, ", ".join(asked_on(path.parent.parent.name, marked)))


def asked_on(folder: str, marked: set[str]) -> list[str]:
    """Where the tests of molecule/`folder` with these markers run, by the commands in lab/ci/steps.py."""
    if folder in TARGETS:
        return [TARGETS[folder]]
    places = [] if folder == "default" else ["scenario"]
    if folder not in VERIFIED or "scenario" in marked:
        return places
    if "long" in marked:
        return [*places, "`make test-operations`"]
    return [*places, "lab", *([] if "disruptive" in marked else ["live fleet"])]


def scenarios(home: Path) -> dict[str, list[Promise]]:
    """The promises of each scenario, in the order of its files; the scenarios that are not a role come last."""
    promises = {
        folder.parent.name: [promise for path in sorted(folder.glob("test_*.py")) for promise in promises_in(path)]
        for folder in sorted(home.glob("molecule/*/tests"))
    }
    # A role without promises is listed too.
    names = {path.name for path in home.glob("roles/*") if path.is_dir()} | set(promises)
    return {name: promises.get(name, []) for name in sorted(names, key=lambda name: (name in TITLES, name))}


def refusals(home: Path) -> list[str]:
    """The names of the wrong inventories, as pytest collects them."""
    files = sorted(str(path.relative_to(home)) for path in home.glob("tests/test_wrong*.py"))
    if not files:
        return []
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=True, env={**os.environ, "PYTEST_ADDOPTS": ""})
    rows = [match.group(1) for match in (re.search(r"::\w+\[(.+)\]$", line) for line in done.stdout.splitlines()) if match]
    return list(dict.fromkeys(rows))


def listing(only: str = "") -> Iterator[str]:
    """The lines to print: each role's promises with where they are asked, then the counts; `only` names one role or scenario."""
    kept = scenarios(REPOSITORY)
    if only and only not in kept:
        raise SystemExit(f"ROLE={only}: no such role or scenario; there is {', '.join(kept)}")
    for name, promises in kept.items():
        if only in ("", name):
            yield f"{TITLES.get(name, name)}: {len(promises)} promises"
            yield from (f"  {promise.sentence}  ({promise.asked}: {promise.file.name})" for promise in promises)
            yield ""
    if not only:
        refused = refusals(REPOSITORY)
        yield f"Refused before any host changes, each with a sentence that names what to edit: {len(refused)}"
        yield from (f"  {row}" for row in refused)
        yield f"\n{sum(map(len, kept.values())) + len(refused)} promises"


def main() -> None:
    print(*listing(*sys.argv[1:]), sep="\n")


if __name__ == "__main__":
    main()
