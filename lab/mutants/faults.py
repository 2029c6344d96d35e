"""The faults and the tests that must notice them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab.machine import REPOSITORY

# The name of the faults that need no host.
UNIT = "unit"


@dataclass(frozen=True)
class Fault:
    """fault: a few words. file, find, replace: the place to break, where `find` occurs exactly once.

    test: the test that must fail: its name in molecule/<role>/tests; in tests/mutants file and name, tests/x.py::test_y.
    refused: the sentence with which the role must refuse the fault during the converge; the test then only runs without it.
    after: the scenario's edit of the inventory that is converged before the test, `change` or `removal`.
    playbook: what brings the file to the hosts, if it is not the playbook of the test's role.
    blank: try the fault on blank hosts, because existing files would hide it.
    """

    fault: str
    file: str
    find: str
    replace: str
    test: str
    refused: str | None = None
    after: str | None = None
    playbook: str | None = None
    blank: bool = False


def files(role: str) -> list[Path]:
    return sorted(REPOSITORY.glob("tests/mutants/*.yml" if role == UNIT else f"molecule/{role}/mutants.yml"))


def roles() -> list[str]:
    return [UNIT, *sorted(path.parent.name for path in (REPOSITORY / "molecule").glob("*/mutants.yml"))]


def faults_of(role: str) -> list[Fault]:
    return [Fault(**entry) for path in files(role) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]


def mutate(text: str, fault: Fault) -> str:
    """The text with the fault in it. A fault that does not fit exactly once is an error: it would test nothing."""
    if text.count(fault.find) != 1:
        raise SystemExit(
            f"mutants: '{fault.find}' occurs {text.count(fault.find)} times in {fault.file}, not once; edit the fault."
        )
    return text.replace(fault.find, fault.replace)


def node(role: str, fault: Fault, repository: Path = REPOSITORY) -> str:
    """The test's pytest id, without hosts and parameters. There must be exactly one."""
    file, _, name = fault.test.rpartition("::")
    places = [repository / file] if role == UNIT else sorted((repository / f"molecule/{role}/tests").glob("test_*.py"))
    defines = re.compile(rf"^def {re.escape(name)}\(", re.MULTILINE)
    matches = [path for path in places if path.is_file() and defines.search(path.read_text(encoding="utf-8"))]
    if len(matches) != 1:
        raise SystemExit(f"mutants: {len(matches)} tests are called {fault.test}, not one; edit '{fault.fault}' of {role}.")
    return f"{matches[0].relative_to(repository)}::{name}"
